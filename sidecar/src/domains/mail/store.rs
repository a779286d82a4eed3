//! The database functions of mails; the only SQL of this domain. Each names worker and attempt, so that an attempt that lost its
//! lease changes nothing.

use std::fmt;

use kijko_core::{
    db::{Db, DbError},
    jobs::{Job, Queue},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::answers::{self, Refusal};

const BACKLOG: &str = "select delivery, queued, oldest_queued_seconds, kept, failed_last_hour from private.mail_backlog()";

/// The functions.
#[derive(Debug, Clone)]
pub(super) struct Store {
    db: Db,
}

/// A mail to be sent.
#[derive(Clone, Deserialize)]
pub(super) struct Mail {
    pub id: Uuid,
    /// Which mail it is.
    pub template: String,
    pub recipient: String,
    pub subject: String,
    pub text: String,
    pub html: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
}

/// Address, subject and bodies are nobody's business; the bodies hold links that sign in.
impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mail")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What waits in the whole database, and whether mails are sent at all.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Backlog {
    /// `smtp` or `keep`.
    pub delivery: String,
    pub queued: i64,
    pub oldest_queued_seconds: f64,
    /// Kept ones that can still be read.
    pub kept: i64,
    pub failed_last_hour: i64,
}

impl Store {
    pub(super) fn new(db: Db) -> Self {
        Self { db }
    }

    /// Begins an attempt: the mail, or why it is not to be sent; `None` when the lease was lost.
    pub(super) async fn start(
        &self,
        queue: &Queue,
        job: &Job,
    ) -> Result<Option<Result<Mail, Refusal>>, DbError> {
        let sql = "select private.mail_start($1, $2, $3)";
        let answer: Option<Value> = self
            .db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt])
            .await?;
        answers::read_some("mail_start", answer)
    }

    /// Asks, just before the server gets the text, whether it may; false when the job is no longer ours.
    pub(super) async fn hand_over(&self, queue: &Queue, job: &Job) -> Result<bool, DbError> {
        let sql = "select private.mail_hand_over($1, $2, $3)";
        self.db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt])
            .await
    }

    /// Records the server's answer to an attempt that failed.
    pub(super) async fn report(
        &self,
        queue: &Queue,
        job: &Job,
        smtp_code: Option<u16>,
        answered: bool,
    ) -> Result<bool, DbError> {
        let sql = "select private.mail_report($1, $2, $3, $4, $5)";
        let code = smtp_code.map(i32::from);
        self.db
            .scalar(
                sql,
                &[&queue.worker(), &job.id, &job.attempt, &code, &answered],
            )
            .await
    }
}

/// Asked for with each readiness probe and scrape.
pub(super) async fn backlog(db: &Db) -> Result<Backlog, DbError> {
    db.one(BACKLOG, &[], |row| {
        Ok(Backlog {
            delivery: row.try_get(0)?,
            queued: row.try_get(1)?,
            oldest_queued_seconds: row.try_get(2)?,
            kept: row.try_get(3)?,
            failed_last_hour: row.try_get(4)?,
        })
    })
    .await
}
