//! The database functions of executions; the only SQL of this domain. Each names worker and attempt, so that an attempt that
//! lost its lease changes nothing.

use kijko_core::{
    db::{Db, DbError},
    jobs::{Failure, Job, Queue},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    answers::{self, Refusal},
    sandbox::Engine,
};

/// The functions.
#[derive(Debug, Clone)]
pub struct Store {
    db: Db,
}

/// What an execution needs to run.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Execution {
    /// The model, with its provider's prefix.
    pub model: String,
    /// The skill's template.
    pub prompt_template: String,
    /// How it is read.
    #[serde(default)]
    pub engine: Engine,
    /// The input.
    pub input: Value,
    /// Whether it names files.
    #[serde(default)]
    pub reads_files: bool,
    /// What the input must look like.
    #[serde(default)]
    pub input_schema: Value,
    /// For the model.
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// The model's longest answer, if its price row has it.
    #[serde(default)]
    pub max_output_tokens: Option<u64>,
}

/// A call that may be made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Reservation {
    /// The call, as it was named.
    pub call_id: Uuid,
}

impl Store {
    /// On this database.
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// Tells the database which providers this process has keys for.
    pub(super) async fn report_providers(&self, providers: &[&str]) -> Result<(), DbError> {
        let sql = "select private.models_report_providers($1)";
        self.db.query(sql, &[&providers]).await.map(drop)
    }

    /// Starts an execution; `None` when there is nothing to do.
    pub(super) async fn start(
        &self,
        queue: &Queue,
        job: &Job,
    ) -> Result<Option<Execution>, DbError> {
        let sql = "select private.executions_start($1, $2, $3)";
        let answer = self
            .db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt])
            .await?;
        read("executions_start", answer)
    }

    /// Reserves the most that a call can use, before it; `None` when the job is no longer ours. Repeating it for the same
    /// call is harmless.
    pub(super) async fn reserve_call(
        &self,
        queue: &Queue,
        job: &Job,
        call: &Value,
    ) -> Result<Option<Result<Reservation, Refusal>>, DbError> {
        let sql = "select private.executions_reserve_call($1, $2, $3, $4)";
        let answer = self
            .db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt, call])
            .await?;
        answers::read_some("executions_reserve_call", answer)
    }

    /// Records the usage of a call whose job is about to be handed back; false when it was recorded before, or the job is not
    /// ours.
    pub(super) async fn record_call(
        &self,
        queue: &Queue,
        job: &Job,
        usage: &Value,
    ) -> Result<bool, DbError> {
        let sql = "select private.executions_record_call($1, $2, $3, $4)";
        self.db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt, usage])
            .await
    }

    /// Appends a piece to the text of a running execution; false when the job is no longer ours. Repeating it for the same piece
    /// is harmless.
    pub(super) async fn stream_text(
        &self,
        queue: &Queue,
        job: &Job,
        seq: i32,
        text: &str,
    ) -> Result<bool, DbError> {
        let sql = "select private.executions_stream_text($1, $2, $3, $4, $5)";
        self.db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt, &seq, &text])
            .await
    }

    /// Output, tokens, cost, metering and the job's end in one transaction; false when it was not taken as a success.
    pub(super) async fn finish(
        &self,
        queue: &Queue,
        job: &Job,
        outcome: &Value,
    ) -> Result<bool, DbError> {
        let sql = "select private.executions_finish($1, $2, $3, $4)";
        self.db
            .scalar(sql, &[&queue.worker(), &job.id, outcome, &job.attempt])
            .await
    }

    /// Records a failure with what its call used, in `private.models_cost`'s terms; the job's new status, or `None` when the lease
    /// was lost.
    pub(super) async fn fail(
        &self,
        queue: &Queue,
        job: &Job,
        failure: &Failure,
        usage: Option<&Value>,
    ) -> Result<Option<String>, DbError> {
        let sql = "select private.executions_fail($1, $2, $3, $4, $5, make_interval(secs => $6), $7, outage => $8, usage => $9)";
        queue.fail(sql, job, failure, &[&usage]).await
    }
}

fn read<T: DeserializeOwned>(function: &str, answer: Option<Value>) -> Result<Option<T>, DbError> {
    let answer = answer.map(serde_json::from_value).transpose();
    answer.map_err(|error| DbError::Unexpected(format!("{function}: {error}")))
}
