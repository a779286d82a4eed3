//! The database functions of prompts; the only SQL of this domain.

use kijko_core::{
    db::{Db, DbError},
    jobs::{Job, Queue},
};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{rendering::Content, sandbox::Engine};

/// A version that is to be checked.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Version {
    pub version: i32,
    pub content: Content,
    pub engine: Engine,
    pub input_schema: Value,
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

    /// What is to be checked; `None` when the prompt was deleted.
    pub(super) async fn start_check(&self, version: Uuid) -> Result<Option<Version>, DbError> {
        let sql = "select private.prompts_start_check($1)";
        let answer: Option<Value> = self.db.scalar(sql, &[&version]).await?;
        let answer = answer.map(serde_json::from_value).transpose();
        answer.map_err(|error| DbError::Unexpected(format!("prompts_start_check: {error}")))
    }

    /// Records the problems of a version; false when it was deleted.
    pub(super) async fn record_check(
        &self,
        version: Uuid,
        problems: &Value,
    ) -> Result<bool, DbError> {
        let sql = "select private.prompts_record_check($1, $2)";
        self.db.scalar(sql, &[&version, problems]).await
    }

    /// Ends and deletes the job; false when it is not ours.
    pub(super) async fn end_check(&self, queue: &Queue, job: &Job) -> Result<bool, DbError> {
        let sql = "select private.prompts_end_check($1, $2, $3)";
        self.db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt])
            .await
    }
}
