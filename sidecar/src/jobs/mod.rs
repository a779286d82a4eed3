//! Running queued jobs: claim, keep the lease alive, run, record.
//!
//! The queue lives in Postgres, this is one of possibly many workers. A job is ours while its lease lasts; every call
//! that records something names worker and attempt, so a worker that lost its lease can no longer change the job.
//!
//! - [`queue`]: the calls of the database functions.
//! - `completions`: results that are ready at once are recorded by one call.
//! - [`worker`]: the loop that claims, and the end of it all at shutdown.
//! - [`running`]: the jobs that run here, their leases and how they are stopped.
//! - [`heartbeat`]: one call for all of them, three times a lease.
//! - [`runner`]: one job from start to record.
//! - [`execution`]: the one kind of job there is.

mod completions;
pub mod execution;
pub mod heartbeat;
pub mod queue;
pub mod runner;
pub mod running;
pub mod worker;

use std::{borrow::Cow, time::Duration};

use futures_util::future::BoxFuture;
use serde_json::Value;
use uuid::Uuid;

use crate::db::DbError;
pub use crate::jobs::{queue::Queue, worker::Worker};

/// A claimed job.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its identity.
    pub id: Uuid,
    /// The organization it is for.
    pub org_id: Uuid,
    /// What is to be done.
    pub kind: String,
    /// What the handler needs to know.
    pub payload: Value,
    /// Which attempt this is, from 1.
    pub attempt: i32,
    /// The last attempt there will be.
    pub max_attempts: i32,
    /// How long this attempt may take.
    pub timeout: Duration,
    /// How long it had been due when it was claimed, by the database's clock.
    pub waited: Duration,
}

/// Why a job failed. Code and message are shown to the organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Short name.
    pub code: Cow<'static, str>,
    /// In words.
    pub message: String,
    /// Whether another attempt may succeed.
    pub retryable: bool,
    /// Not before that.
    pub retry_after: Option<Duration>,
    /// The vendor was down: this counts against the kind, and for the first 24 hours not against this job.
    pub outage: bool,
}

impl Failure {
    /// A failure of ours: the organization learns only that, the log has the cause.
    pub fn internal() -> Self {
        Self {
            code: "internal".into(),
            message: "something went wrong on our side".to_owned(),
            retryable: true,
            retry_after: None,
            outage: false,
        }
    }
}

/// How a handler ends without a result.
#[derive(Debug)]
pub enum HandlerError {
    /// The job failed.
    Failed(Failure),
    /// The database says that there is nothing (more) to do: cancelled, or the lease went elsewhere.
    Gone,
    /// The database could not be asked.
    Database(DbError),
}

impl From<DbError> for HandlerError {
    fn from(error: DbError) -> Self {
        Self::Database(error)
    }
}

/// What is done for one kind of job. A handler computes; what it returns is recorded by the runner, which keeps trying
/// while the lease lasts. Its future may be dropped at any await.
pub trait Handler: Send + Sync {
    /// The kinds it can run, as in `jobs.kind`; no others are claimed.
    fn kinds(&self) -> Vec<String>;

    /// Does the work.
    fn run<'a>(
        &'a self,
        queue: &'a Queue,
        job: &'a Job,
    ) -> BoxFuture<'a, Result<Value, HandlerError>>;

    /// Records a result; false when the database did not take it as a success.
    fn record_success<'a>(
        &'a self,
        queue: &'a Queue,
        job: &'a Job,
        result: &'a Value,
    ) -> BoxFuture<'a, Result<bool, DbError>> {
        Box::pin(queue.complete(job, result))
    }

    /// Records a failure; the new status, or `None` when the lease was lost.
    fn record_failure<'a>(
        &'a self,
        queue: &'a Queue,
        job: &'a Job,
        failure: &'a Failure,
    ) -> BoxFuture<'a, Result<Option<String>, DbError>> {
        Box::pin(queue.fail_job(job, failure))
    }

    /// Hands a job back at shutdown; false when it is not ours.
    fn record_release<'a>(
        &'a self,
        queue: &'a Queue,
        job: &'a Job,
    ) -> BoxFuture<'a, Result<bool, DbError>> {
        Box::pin(queue.release(job))
    }
}
