//! The database functions of publishing and measuring; the only SQL of this domain.

use std::time::Duration;

use kijko_core::{
    db::{Db, DbError},
    jobs::{Job, Queue},
};
use serde_json::Value;
use uuid::Uuid;

use super::{
    failure::{Refusal, Unknown},
    post::{Created, Post},
};

/// The functions.
#[derive(Debug, Clone)]
pub(super) struct Store {
    db: Db,
}

/// What a job is to do.
#[derive(Debug)]
pub(super) enum Work {
    Post(Box<Post>),
    /// Not yet; seconds.
    Wait(u64),
    Nothing,
}

impl Work {
    /// By what it has, and not by what fits: a post that cannot be read must not look like nothing to do.
    fn read(work: Value) -> Option<Self> {
        if work.get("action").is_some() {
            return serde_json::from_value(work).ok().map(Self::Post);
        }
        match work.get("wait") {
            Some(wait) => wait.as_u64().map(Self::Wait),
            None => work.as_object()?.is_empty().then_some(Self::Nothing),
        }
    }
}

/// Postgres stores no NUL.
fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn status(status: Option<u16>) -> Option<i32> {
    status.map(i32::from)
}

fn seconds(wait: Option<Duration>) -> Option<f64> {
    wait.map(|wait| wait.as_secs_f64())
}

impl Store {
    pub(super) fn new(db: Db) -> Self {
        Self { db }
    }

    pub(super) async fn begin(&self, queue: &Queue, job: &Job) -> Result<Work, DbError> {
        let sql = "select private.social_begin($1, $2, $3)";
        let (worker, id, attempt) = (queue.worker(), job.id, job.attempt);
        let work: Value = self.db.scalar(sql, &[&worker, &id, &attempt]).await?;
        // It is not repeated: it has a token.
        let unexpected = || DbError::Unexpected("the answer of social_begin".to_owned());
        Work::read(work).ok_or_else(unexpected)
    }

    /// Keeps what the platform holds; false when there is nothing more to do.
    pub(super) async fn prepared(
        &self,
        queue: &Queue,
        job: &Job,
        prepared: &Value,
    ) -> Result<bool, DbError> {
        let sql = "select private.social_prepared($1, $2, $3, $4)";
        let (worker, id, attempt) = (queue.worker(), job.id, job.attempt);
        self.db
            .scalar(sql, &[&worker, &id, &attempt, prepared])
            .await
    }

    /// Nothing was created, and no call to create it has begun.
    pub(super) async fn failed(
        &self,
        queue: &Queue,
        job: &Job,
        refusal: &Refusal,
    ) -> Result<bool, DbError> {
        let sql = "select private.social_failed($1, $2, $3, $4, $5, $6, $7, $8)";
        let (worker, id, attempt) = (queue.worker(), job.id, job.attempt);
        let (class, code) = (refusal.class.name(), without_nul(&refusal.code));
        let (message, status) = (without_nul(&refusal.message), status(refusal.status));
        let wait = seconds(refusal.wait);
        self.db
            .scalar(
                sql,
                &[
                    &worker, &id, &attempt, &class, &code, &message, &status, &wait,
                ],
            )
            .await
    }

    /// Commits the intent; true when the call may be made.
    pub(super) async fn start_create(
        &self,
        queue: &Queue,
        job: &Job,
        create: Uuid,
        limit: Duration,
    ) -> Result<bool, DbError> {
        let sql = "select private.social_start_create($1, $2, $3, $4, $5)";
        let (worker, id, attempt) = (queue.worker(), job.id, job.attempt);
        let limit = limit.as_secs_f64();
        let started: Value = self
            .db
            .scalar(sql, &[&worker, &id, &attempt, &create, &limit])
            .await?;
        Ok(started["started"] == true)
    }

    pub(super) async fn published(&self, create: Uuid, created: &Created) -> Result<bool, DbError> {
        let sql = "select private.social_published($1, $2, $3, $4)";
        let (id, url) = (&created.id, &created.url);
        self.db
            .scalar(sql, &[&create, id, url, &status(created.status)])
            .await
    }

    /// The platform certainly did not create it.
    pub(super) async fn refused(&self, create: Uuid, refusal: &Refusal) -> Result<bool, DbError> {
        let sql = "select private.social_refused($1, $2, $3, $4, $5, $6)";
        let (class, code) = (refusal.class.name(), without_nul(&refusal.code));
        let (message, status) = (without_nul(&refusal.message), status(refusal.status));
        let wait = seconds(refusal.wait);
        self.db
            .scalar(sql, &[&create, &class, &code, &message, &status, &wait])
            .await
    }

    /// Nobody knows whether it was created.
    pub(super) async fn lost(&self, create: Uuid, unknown: &Unknown) -> Result<bool, DbError> {
        let sql = "select private.social_lost($1, $2, $3, $4)";
        let (message, status) = (without_nul(&unknown.message), status(unknown.status));
        self.db
            .scalar(sql, &[&create, &unknown.code, &message, &status])
            .await
    }

    /// Holds what a platform charges for so many posts that a look may read. False: it must not be asked.
    pub(super) async fn reserve_reads(&self, create: Uuid, most: i32) -> Result<bool, DbError> {
        let sql = "select private.social_reserve_reads($1, $2)";
        self.db.scalar(sql, &[&create, &most]).await
    }

    /// What a platform charges for the posts that a look has read, once for each look.
    pub(super) async fn charge_reads(
        &self,
        create: Uuid,
        look: Uuid,
        reads: i32,
    ) -> Result<bool, DbError> {
        let sql = "select private.social_charge_reads($1, $2, $3)";
        self.db.scalar(sql, &[&create, &look, &reads]).await
    }

    /// The platform does not show it; or it could not be asked, and why; or it shows posts to nobody.
    pub(super) async fn not_found(
        &self,
        create: Uuid,
        can_tell: bool,
        failure: Option<&str>,
    ) -> Result<bool, DbError> {
        let sql = "select private.social_not_found($1, $2, $3)";
        let failure = failure.map(without_nul);
        self.db.scalar(sql, &[&create, &can_tell, &failure]).await
    }

    /// The platform did not accept the account's token.
    pub(super) async fn reject_token(&self, post: &Post) -> Result<(), DbError> {
        let sql = "select private.connections_reject($1, $2, $3)";
        let (org, connection) = (&post.org_id, &post.connection_id);
        self.db
            .query(sql, &[org, connection, &post.generation])
            .await
            .map(drop)
    }

    /// Keeps what an image is, and deletes the job; false when it is not ours.
    pub(super) async fn record_measurement(
        &self,
        queue: &Queue,
        job: &Job,
        measured: &Value,
    ) -> Result<bool, DbError> {
        let sql = "select private.social_record_measurement($1, $2, $3, $4)";
        let (worker, id, attempt) = (queue.worker(), job.id, job.attempt);
        self.db
            .scalar(sql, &[&worker, &id, &attempt, measured])
            .await
    }

    /// Ends and deletes the job; false when it is not ours.
    pub(super) async fn end_job(&self, queue: &Queue, job: &Job) -> Result<bool, DbError> {
        let sql = "select private.social_end_job($1, $2, $3)";
        let (worker, id, attempt) = (queue.worker(), job.id, job.attempt);
        self.db.scalar(sql, &[&worker, &id, &attempt]).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn work_is_what_the_database_says() {
        assert!(matches!(Work::read(json!({})), Some(Work::Nothing)));
        assert!(matches!(
            Work::read(json!({"wait": 7})),
            Some(Work::Wait(7))
        ));
        for bad in [
            json!(null),
            json!({"post_id": 1}),
            json!({"action": "publish"}),
        ] {
            assert!(Work::read(bad.clone()).is_none(), "{bad}");
        }
        let work = Work::read(json!({
            "action": "check", "org_id": Uuid::nil(), "platform": "twitter", "text": "x", "media": [], "connection_id": null,
            "account_id": null, "generation": null, "access_token": "hidden", "prepared": {}, "create_id": Uuid::nil(),
            "create_started_at": 1_795_969_347, "known_ids": ["7"],
        }));
        let Some(Work::Post(post)) = work else {
            panic!("{work:?}")
        };
        assert!(!format!("{post:?}").contains("hidden"));
        assert_eq!(post.not_before(), "2026-11-29T16:21:27Z");
        assert!(post.knows(&json!("7")) && !post.knows(&json!("8")));
        assert!(post.is_before("2026-11-29T16:21:26+0000"));
        assert!(!post.is_before("2026-11-29T16:21:27+0000") && !post.is_before("now"));
    }
}
