//! The database functions of discoveries; the only SQL of this domain.

use kijko_core::{
    db::{Db, DbError},
    jobs::{Job, Queue},
    secret::Secret,
};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::answers::{self, Refusal};

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
    /// The model that answers, its cost held. None: there is none, or its provider is gone.
    pub target: Option<Target>,
    /// Hosts of the operator's own network that may be reached.
    pub allowed_hosts: String,
    /// Addresses whose text is known.
    pub known: Vec<String>,
}

/// A model of Gemini, at a provider of the platform or of the organization.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Target {
    /// None, without a key: as this process is configured.
    pub base_url: Option<String>,
    pub key: Option<Secret>,
    /// Hosts of the operator's own network that its address may name.
    pub allowed_hosts: String,
    pub model: String,
    pub max_output_tokens: u64,
}

/// What is embedded.
#[derive(Debug, Deserialize)]
pub(super) struct Embedding {
    pub org_id: Uuid,
    /// Of the call.
    pub ticket: String,
    pub request: Value,
    /// What each text is of.
    pub sources: Vec<Value>,
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
        // It is not repeated: it may have a key.
        started
            .map(serde_json::from_value)
            .transpose()
            .map_err(|_| DbError::Unexpected(format!("the answer to {sql}")))
    }

    /// What a job asks a model, its cost held, or why it does not; `None` when its lease was lost or nothing is left to do.
    pub(super) async fn start_embedding(
        &self,
        queue: &Queue,
        job: &Job,
    ) -> Result<Option<Result<Embedding, Refusal>>, DbError> {
        let sql = "select private.topics_start_embedding($1, $2, $3)";
        let started: Option<Value> = self
            .db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt])
            .await?;
        answers::read_some(sql, started)
    }

    /// Keeps vectors and ends the job; false when its lease was lost.
    pub(super) async fn finish_embedding(
        &self,
        queue: &Queue,
        job: &Job,
        result: &Value,
    ) -> Result<bool, DbError> {
        let sql = "select private.topics_finish_embedding($1, $2, $3, $4)";
        self.db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt, result])
            .await
    }

    /// Scores a topic that got vectors; false when that is done.
    pub(super) async fn score_embedded(&self, topic: Uuid) -> Result<bool, DbError> {
        let sql = "select private.topics_score_embedded($1)";
        self.db.scalar(sql, &[&topic]).await
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
