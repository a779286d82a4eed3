//! The database functions of skills; the only SQL of this domain.

use kijko_core::{
    db::{Db, DbError},
    jobs::{Job, Queue},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::sandbox::Engine;

/// The task of a skill.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Task {
    pub prompt_template: String,
    #[serde(default)]
    pub engine: Engine,
    pub input_schema: Value,
    pub model: String,
    pub parameters: Map<String, Value>,
    /// The model's longest answer, if its price row has it.
    pub max_output_tokens: Option<u64>,
}

/// The functions.
#[derive(Debug, Clone)]
pub(super) struct Store {
    db: Db,
}

/// The current version of a skill.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Skill {
    pub version: i32,
    pub task: Task,
}

impl Store {
    pub(super) fn new(db: Db) -> Self {
        Self { db }
    }

    /// What is to be checked; `None` when the skill was deleted.
    pub(super) async fn start_check(&self, skill: Uuid) -> Result<Option<Skill>, DbError> {
        let sql = "select private.skills_start_check($1)";
        let answer: Option<Value> = self.db.scalar(sql, &[&skill]).await?;
        let answer = answer.map(serde_json::from_value).transpose();
        answer.map_err(|error| DbError::Unexpected(format!("skills_start_check: {error}")))
    }

    /// Records the problems of a version; false when another one is current by now.
    pub(super) async fn record_check(
        &self,
        skill: Uuid,
        version: i32,
        problems: &Value,
    ) -> Result<bool, DbError> {
        let sql = "select private.skills_record_check($1, $2, $3)";
        self.db.scalar(sql, &[&skill, &version, problems]).await
    }

    /// Ends and deletes the job; false when it is not ours.
    pub(super) async fn end_check(&self, queue: &Queue, job: &Job) -> Result<bool, DbError> {
        let sql = "select private.skills_end_check($1, $2, $3)";
        self.db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt])
            .await
    }

    /// The most that a call costs; `None` without a price.
    pub(super) async fn estimate_cost(
        &self,
        model: &str,
        input_tokens: u64,
        output_tokens: u64,
        service_tier: Option<&str>,
    ) -> Result<Option<i64>, DbError> {
        let sql = "select private.skills_estimate_cost($1, $2, $3, $4)";
        let [input, output] =
            [input_tokens, output_tokens].map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        self.db
            .scalar(sql, &[&model, &input, &output, &service_tier])
            .await
    }
}
