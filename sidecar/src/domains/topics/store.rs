//! The database functions of discoveries; the only SQL of this domain.

use kijko_core::{
    db::{Db, DbError},
    jobs::{Job, Queue},
};
use serde::Deserialize;
use serde_json::Value;

/// What a job finds when it starts.
#[derive(Debug, Deserialize)]
pub(super) struct Started {
    /// None: the run has ended.
    pub work: Option<Work>,
}

/// How a discovery looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Feed,
    Searxng,
    Tavily,
    Gemini,
}

/// What is to be collected.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Work {
    pub collector: Kind,
    pub url: Option<String>,
    pub query: Option<String>,
    /// `general` or `news`.
    pub category: String,
    pub language: String,
    pub read_pages: bool,
    pub max_items: usize,
    pub etag: Option<String>,
    pub last_modified: Option<String>,
    pub model: Option<String>,
    pub max_output_tokens: Option<u64>,
    /// Hosts of the operator's own network that may be reached.
    pub allowed_hosts: String,
    /// Addresses whose text is known.
    pub known: Vec<String>,
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

    /// What a job is to collect; `None` when its lease was lost.
    pub(super) async fn start(&self, queue: &Queue, job: &Job) -> Result<Option<Started>, DbError> {
        let sql = "select private.topics_start_run($1, $2, $3)";
        let started: Option<Value> = self
            .db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt])
            .await?;
        started
            .map(serde_json::from_value)
            .transpose()
            .map_err(|error| DbError::Unexpected(format!("topics_start_run: {error}")))
    }

    /// Ends a job with what was collected; false when its lease was lost.
    pub(super) async fn finish(
        &self,
        queue: &Queue,
        job: &Job,
        outcome: &Value,
    ) -> Result<bool, DbError> {
        let sql = "select private.topics_finish_run($1, $2, $3, $4)";
        self.db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt, outcome])
            .await
    }
}
