//! The database functions of ingestions; the only SQL of this domain.

use kijko_core::{
    db::{Db, DbError},
    jobs::{Job, Queue},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

/// Files that are looked at together.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Page {
    /// The last of them; none if there is none.
    pub until: Option<String>,
    /// How many.
    pub looked: u32,
    /// Of these, which can be no documents, as their rows say.
    pub unfit: u32,
    /// Those to read.
    #[serde(skip_serializing)]
    pub files: Vec<File>,
}

/// A file to read.
#[derive(Debug, Deserialize)]
pub(super) struct File {
    pub file_id: Uuid,
    pub version: i32,
    pub path: String,
    /// For the storage service.
    pub ticket: String,
}

/// What was read of one.
#[derive(Debug, Serialize)]
pub(super) struct Stored {
    pub file_id: Uuid,
    pub version: i32,
    /// None: it is no text.
    pub content: Option<String>,
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

    /// The next files of a held job; `None` when there is nothing to do.
    pub(super) async fn next(&self, queue: &Queue, job: &Job) -> Result<Option<Page>, DbError> {
        let sql = "select private.documents_next_files($1, $2, $3)";
        let answer: Option<Value> = self
            .db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt])
            .await?;
        let page = answer.map(serde_json::from_value).transpose();
        page.map_err(|error| DbError::Unexpected(format!("documents_next_files: {error}")))
    }

    /// Stores what was read; false when there is nothing to do any more.
    pub(super) async fn store(
        &self,
        queue: &Queue,
        job: &Job,
        page: &Page,
        texts: &[Stored],
    ) -> Result<bool, DbError> {
        let sql = "select private.documents_store_files($1, $2, $3, $4, $5)";
        let (page, texts) = (json!(page), json!(texts));
        self.db
            .scalar(
                sql,
                &[&queue.worker(), &job.id, &job.attempt, &page, &texts],
            )
            .await
    }
}
