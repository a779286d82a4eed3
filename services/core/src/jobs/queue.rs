//! The database's worker functions, one method each. The only SQL of the worker is here.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    job::{Failure, HandlerError, Job},
    result_batch::ResultBatch,
};
use crate::db::{Db, DbError, LockWait, retry_transient};

/// The queue, as one worker sees it.
#[derive(Debug, Clone)]
pub struct Queue {
    db: Db,
    worker: String,
    lease: Duration,
    retry_limit: Duration,
    results: Arc<ResultBatch>,
}

/// The state of a held job, from a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// It is to be cancelled.
    pub cancel_requested: bool,
    /// Its lease was extended. If not, another transaction held its row, and the lease is unchanged.
    pub extended: bool,
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
    /// Claimed, with a lease that has ended.
    pub overdue: i64,
}

impl QueueStats {
    /// Of a kind without jobs.
    pub fn idle(kind: String) -> Self {
        Self {
            kind,
            queued: 0,
            running: 0,
            dead: 0,
            oldest_queued_seconds: 0.0,
            overdue: 0,
        }
    }
}

impl Queue {
    /// The queue as seen by the worker of this name, which takes leases of this length and retries transient errors for so long.
    pub fn new(db: Db, worker: String, lease: Duration, retry_limit: Duration) -> Self {
        Self {
            db,
            worker,
            lease,
            retry_limit,
            results: Arc::default(),
        }
    }

    /// How long a transient error is retried.
    pub fn retry_limit(&self) -> Duration {
        self.retry_limit
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

    /// Ends a job as succeeded, together with others that are ready; false when the lease was lost or the job was cancelled.
    pub async fn complete(&self, job: &Job, result: &Value) -> Result<bool, DbError> {
        self.results
            .complete(&self.db, &self.worker, job, result)
            .await
    }

    /// Records a failure; the job's new status, or `None` when the lease was lost.
    pub async fn fail_job(&self, job: &Job, failure: &Failure) -> Result<Option<String>, DbError> {
        let sql = "select private.jobs_fail($1, $2, $3, $4, $5, make_interval(secs => $6), $7, $8)";
        self.fail(sql, job, failure, &[]).await
    }

    /// Asks the database for a job's work, before anything is done for it. A short outage of the database costs no attempt. While
    /// another transaction holds the rows, the job is handed back instead, so that it keeps no slot from other organizations.
    pub async fn begin<T, F>(&self, call: impl Fn() -> F) -> Result<T, HandlerError>
    where
        F: Future<Output = Result<T, DbError>>,
    {
        let call = &call;
        let tried = || async move {
            match call().await {
                Err(error) if error.is_held() => Ok(Err(HandlerError::Held)),
                answer => answer.map(Ok),
            }
        };
        LockWait::Brief
            .of(retry_transient(self.retry_limit, tried))
            .await?
    }

    /// Hands a job back, to be claimed after a pause and without counting the attempt; false when it is not ours.
    pub async fn release(&self, job: &Job, pause: Duration) -> Result<bool, DbError> {
        let ids = [job.id];
        let released: i32 = self
            .db
            .scalar(
                "select private.jobs_release($1, $2, make_interval(secs => $3))",
                &[&self.worker, &ids.as_slice(), &pause.as_secs_f64()],
            )
            .await?;
        Ok(released > 0)
    }

    /// Records a failure by another function than `private.jobs_fail`, which takes the same parameters and then `more`.
    pub async fn fail(
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
        "select kind, queued, running, dead, oldest_queued_seconds, overdue from private.jobs_stats()",
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
        overdue: row.try_get("overdue")?,
    })
}

/// Postgres stores no NUL in text; the text of another service may have one.
pub fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
