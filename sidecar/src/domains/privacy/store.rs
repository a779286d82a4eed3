//! The database functions of privacy; the only SQL of this domain.

use kijko_core::{
    db::{Db, DbError},
    jobs::{Job, Queue},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use uuid::Uuid;

const BACKLOG: &str =
    "select exports, erasures, failed, oldest_due_seconds from private.privacy_backlog()";

/// What the manifest says of the request.
const HEAD: [&str; 4] = ["request_id", "user_id", "org_id", "created_at"];

/// What an archive is made of.
#[derive(Debug, Deserialize)]
pub(super) struct Export {
    pub pieces: i32,
    /// Columns of each table.
    pub schema: Map<String, Value>,
    pub objects: Vec<ObjectRow>,
    /// What else the manifest says: whose export it is, and when it was asked for.
    #[serde(skip)]
    pub head: Map<String, Value>,
}

/// A file of an export.
#[derive(Debug, Deserialize)]
pub(super) struct ObjectRow {
    pub id: Uuid,
    pub bucket: String,
    pub name: String,
    pub bytes: u64,
}

/// Rows of a table.
#[derive(Debug, Deserialize)]
pub(super) struct Piece {
    pub table: String,
    pub lines: String,
    pub rows: u64,
}

/// What is read for a link.
#[derive(Debug, Deserialize)]
pub(super) struct Link {
    pub ticket: String,
    pub bytes: u64,
    pub name: String,
}

/// Exports and erasures that are under way, and what an operator must look at.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Backlog {
    /// Exports that are under way.
    pub exports: i64,
    /// Erasures that are under way.
    pub erasures: i64,
    /// Lines of `private.privacy_problems()`.
    pub failed: i64,
    /// For how long the oldest of the former has been due.
    pub oldest_due_seconds: f64,
}

/// The functions.
#[derive(Debug, Clone)]
pub(super) struct Store {
    db: Db,
}

impl Store {
    pub(super) fn new(db: Db) -> Self {
        Self { db }
    }

    /// `None` when the lease was lost, or the rows are collected again.
    pub(super) async fn start_export(
        &self,
        queue: &Queue,
        job: &Job,
    ) -> Result<Option<Export>, DbError> {
        let sql = "select private.privacy_start_export($1, $2, $3)";
        let answer: Option<Value> = self
            .db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt])
            .await?;
        let said = answer.as_ref().and_then(Value::as_object).cloned();
        let export: Option<Export> = read("privacy_start_export", answer)?;
        Ok(export.map(|export| Export {
            head: head(said.unwrap_or_default()),
            ..export
        }))
    }

    /// `None` when the lease was lost, or a crash of the database has emptied the table.
    pub(super) async fn piece(
        &self,
        queue: &Queue,
        job: &Job,
        place: i32,
    ) -> Result<Option<Piece>, DbError> {
        let sql = "select private.privacy_export_piece($1, $2, $3, $4)";
        let answer = self
            .db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt, &place])
            .await?;
        read("privacy_export_piece", answer)
    }

    /// `None` when the lease was lost, or the file is gone.
    pub(super) async fn object_ticket(
        &self,
        queue: &Queue,
        job: &Job,
        object: Uuid,
    ) -> Result<Option<String>, DbError> {
        let sql = "select private.privacy_object_ticket($1, $2, $3, $4)";
        self.db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt, &object])
            .await
    }

    /// `None` when the lease was lost.
    pub(super) async fn store_ticket(
        &self,
        queue: &Queue,
        job: &Job,
    ) -> Result<Option<String>, DbError> {
        let sql = "select private.privacy_store_ticket($1, $2, $3)";
        self.db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt])
            .await
    }

    /// False when the lease was lost.
    pub(super) async fn finish_export(
        &self,
        queue: &Queue,
        job: &Job,
        bytes: u64,
        sha256: &str,
    ) -> Result<bool, DbError> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let sql = "select private.privacy_finish_export($1, $2, $3, $4, $5)";
        self.db
            .scalar(
                sql,
                &[&queue.worker(), &job.id, &job.attempt, &bytes, &sha256],
            )
            .await
    }

    /// `None` for a link that was not claimed a moment ago.
    pub(super) async fn read_export(&self, link: Uuid) -> Result<Option<Link>, DbError> {
        let sql = "select private.privacy_read_export($1)";
        read("privacy_read_export", self.db.scalar(sql, &[&link]).await?)
    }

    /// The entry of the journal; `None` when the lease was lost, or it is there already.
    pub(super) async fn start_journal(
        &self,
        queue: &Queue,
        job: &Job,
    ) -> Result<Option<Value>, DbError> {
        let sql = "select private.privacy_start_journal($1, $2, $3)";
        self.db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt])
            .await
    }

    /// False when the lease was lost.
    pub(super) async fn finish_journal(
        &self,
        queue: &Queue,
        job: &Job,
        sha256: &str,
    ) -> Result<bool, DbError> {
        let sql = "select private.privacy_finish_journal($1, $2, $3, $4)";
        self.db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt, &sha256])
            .await
    }
}

/// What is under way in the whole database.
pub(super) async fn backlog(db: &Db) -> Result<Backlog, DbError> {
    db.one(BACKLOG, &[], |row| {
        Ok(Backlog {
            exports: row.try_get(0)?,
            erasures: row.try_get(1)?,
            failed: row.try_get(2)?,
            oldest_due_seconds: row.try_get(3)?,
        })
    })
    .await
}

fn head(mut said: Map<String, Value>) -> Map<String, Value> {
    said.retain(|name, _| HEAD.contains(&name.as_str()));
    said
}

fn read<T: DeserializeOwned>(function: &str, answer: Option<Value>) -> Result<Option<T>, DbError> {
    let read = answer.map(serde_json::from_value).transpose();
    read.map_err(|error| DbError::Unexpected(format!("{function}: {error}")))
}
