//! The database's worker functions, one method each. The only SQL of the worker is here.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::{Map, Value};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Failure, Job, completions::Completions};
use crate::db::{Db, DbError};

/// The queue, as one worker sees it.
#[derive(Debug, Clone)]
pub struct Queue {
    db: Db,
    worker: String,
    lease: Duration,
    patience: Duration,
    completions: Arc<Completions>,
}

/// How long a transient error is retried by default.
const PATIENCE: Duration = Duration::from_secs(60);

/// The state of a held job, from a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// It is to be cancelled.
    pub cancel_requested: bool,
    /// Its lease was extended. If not, another transaction held its row, and the lease is unchanged.
    pub extended: bool,
}

/// What an execution needs to run.
#[derive(Debug, Clone, Deserialize)]
pub struct Execution {
    /// Its identity.
    pub execution_id: Uuid,
    /// The model, with its provider's prefix.
    pub model: String,
    /// The skill's template.
    pub prompt_template: String,
    /// The input.
    pub input: Value,
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

/// Whether a model may be called.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Reservation {
    /// The call is reserved.
    Held {
        /// The call, as it was named.
        call_id: Uuid,
    },
    /// It does not fit into the plan, or has no price.
    Refused {
        /// Short name.
        refused: String,
        /// In words.
        message: Option<String>,
    },
}

/// Depth and age of one kind's queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueStats {
    /// The kind of job.
    pub kind: String,
    /// Waiting, including those that are not due yet.
    pub queued: i64,
    /// Claimed by a worker.
    pub running: i64,
    /// Given up.
    pub dead: i64,
    /// How long the oldest due job has waited.
    pub oldest_queued_seconds: f64,
}

impl Queue {
    /// The queue as seen by the worker of this name, which takes leases of this length.
    pub fn new(db: Db, worker: String, lease: Duration) -> Self {
        Self {
            db,
            worker,
            lease,
            patience: PATIENCE,
            completions: Arc::default(),
        }
    }

    /// The same with another retry limit for transient errors.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// How long a transient error is retried.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// The length of the leases.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// The worker's name.
    pub fn worker(&self) -> &str {
        &self.worker
    }

    /// Claims up to `limit` jobs of these kinds.
    pub async fn claim(&self, limit: usize, kinds: &[String]) -> Result<Vec<Job>, DbError> {
        self.db
            .all(
                "select id, org_id, kind, payload, attempt, max_attempts, timeout_seconds, waited_seconds
                 from private.jobs_claim($1, make_interval(secs => $2), $3, $4)",
                &[
                    &self.worker,
                    &self.lease.as_secs_f64(),
                    &i32::try_from(limit).unwrap_or(i32::MAX),
                    &kinds,
                ],
                job,
            )
            .await
    }

    /// Extends the leases of these jobs. A job that is missing from the answer is no longer ours.
    pub async fn heartbeat(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, Beat>, DbError> {
        self.db
            .all(
                "select id, cancel_requested, extended from private.jobs_heartbeat($1, $2, make_interval(secs => $3))",
                &[&self.worker, &ids, &self.lease.as_secs_f64()],
                |row| {
                    let (cancel_requested, extended) = (row.try_get(1)?, row.try_get(2)?);
                    Ok((row.try_get(0)?, Beat { cancel_requested, extended }))
                },
            )
            .await
    }

    /// Ends a job well, together with others that are ready; false when the lease was lost or the job was cancelled.
    pub async fn complete(&self, job: &Job, result: &Value) -> Result<bool, DbError> {
        self.completions
            .complete(&self.db, &self.worker, job, result)
            .await
    }

    /// Records a failure; the job's new status, or `None` when the lease was lost.
    pub async fn fail_job(&self, job: &Job, failure: &Failure) -> Result<Option<String>, DbError> {
        let sql = "select private.jobs_fail($1, $2, $3, $4, $5, make_interval(secs => $6), $7, $8)";
        self.fail(sql, job, failure, &[]).await
    }

    /// Hands a job back at shutdown, to be claimed at once and without counting the attempt; false when it is not ours.
    pub async fn release(&self, job: &Job) -> Result<bool, DbError> {
        let ids = [job.id];
        let released: i32 = self
            .db
            .scalar(
                "select private.jobs_release($1, $2)",
                &[&self.worker, &ids.as_slice()],
            )
            .await?;
        Ok(released > 0)
    }

    /// Starts an execution; `None` when there is nothing to do.
    pub async fn start_execution(&self, job: &Job) -> Result<Option<Execution>, DbError> {
        let sql = "select private.executions_start($1, $2, $3)";
        let answer: Option<Value> = self
            .db
            .scalar(sql, &[&self.worker, &job.id, &job.attempt])
            .await?;
        answer
            .map(serde_json::from_value)
            .transpose()
            .map_err(|error| DbError::Unexpected(format!("start_execution: {error}")))
    }

    /// Reserves the most that a call can use, before it; `None` when the job is no longer ours. Repeating it for the same
    /// call is harmless.
    pub async fn reserve_call(
        &self,
        job: &Job,
        call: &Value,
    ) -> Result<Option<Reservation>, DbError> {
        let sql = "select private.executions_reserve_call($1, $2, $3, $4)";
        let answer: Option<Value> = self
            .db
            .scalar(sql, &[&self.worker, &job.id, &job.attempt, call])
            .await?;
        answer
            .map(serde_json::from_value)
            .transpose()
            .map_err(|error| DbError::Unexpected(format!("reserve_call: {error}")))
    }

    /// Books the use of a call whose job is about to be handed back; false when it was booked before, or the job is not ours.
    pub async fn book_call(&self, job: &Job, used: &Value) -> Result<bool, DbError> {
        let sql = "select private.executions_record_call($1, $2, $3, $4)";
        self.db
            .scalar(sql, &[&self.worker, &job.id, &job.attempt, used])
            .await
    }

    /// Output, tokens, cost, metering and the job's end in one transaction; false when it was not taken as a success.
    pub async fn finish_execution(&self, job: &Job, outcome: &Value) -> Result<bool, DbError> {
        self.db
            .scalar(
                "select private.executions_finish($1, $2, $3, $4)",
                &[&self.worker, &job.id, outcome, &job.attempt],
            )
            .await
    }

    /// As [`Self::fail_job`], for an execution, with what its call used in `private.models_cost`'s terms.
    pub async fn fail_execution(
        &self,
        job: &Job,
        failure: &Failure,
        used: Option<&Value>,
    ) -> Result<Option<String>, DbError> {
        let sql = "select private.executions_fail($1, $2, $3, $4, $5, make_interval(secs => $6), $7, outage => $8, usage => $9)";
        self.fail(sql, job, failure, &[&used]).await
    }

    async fn fail(
        &self,
        sql: &str,
        job: &Job,
        failure: &Failure,
        more: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Option<String>, DbError> {
        let wait = failure.retry_after.map(|wait| wait.as_secs_f64());
        let (code, message) = (failure.code.as_ref(), without_nul(&failure.message));
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 8] = [
            &self.worker,
            &job.id,
            &code,
            &message,
            &failure.retryable,
            &wait,
            &job.attempt,
            &failure.outage,
        ];
        self.db.scalar(sql, &[&params, more].concat()).await
    }
}

/// Depth and age of the queue by kind.
pub async fn stats(db: &Db) -> Result<Vec<QueueStats>, DbError> {
    db.all(
        "select kind, queued, running, dead, oldest_queued_seconds from private.jobs_stats()",
        &[],
        queue_stats,
    )
    .await
}

fn job(row: &Row) -> Result<Job, tokio_postgres::Error> {
    let timeout: i32 = row.try_get("timeout_seconds")?;
    let waited: f64 = row.try_get("waited_seconds")?;
    Ok(Job {
        id: row.try_get("id")?,
        org_id: row.try_get("org_id")?,
        kind: row.try_get("kind")?,
        payload: row.try_get("payload")?,
        attempt: row.try_get("attempt")?,
        max_attempts: row.try_get("max_attempts")?,
        timeout: Duration::from_secs(u64::try_from(timeout).unwrap_or(0)),
        waited: Duration::try_from_secs_f64(waited).unwrap_or_default(),
    })
}

fn queue_stats(row: &Row) -> Result<QueueStats, tokio_postgres::Error> {
    Ok(QueueStats {
        kind: row.try_get("kind")?,
        queued: row.try_get("queued")?,
        running: row.try_get("running")?,
        dead: row.try_get("dead")?,
        oldest_queued_seconds: row.try_get("oldest_queued_seconds")?,
    })
}

/// Postgres has no NUL in text; a vendor's words may.
pub(super) fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
