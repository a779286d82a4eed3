//! One job from start to record.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use serde_json::Value;
use tokio::time::Instant;
use tracing::Instrument;

use super::{
    Failure, Handler, HandlerError, Job, Queue,
    running::{Lease, Stop},
};
use crate::{
    db::{DbError, persist},
    telemetry::{Metrics, Outcome},
};

/// How the work ended, before anything is recorded.
#[derive(Debug)]
enum Ended {
    Done(Value),
    Failed(Failure),
    Stopped(Stop),
    Gone,
}

/// Runs the job and records how it ended. A panic of the handler is this job's failure, not the worker's.
pub async fn run(
    queue: &Queue,
    handler: Arc<dyn Handler>,
    job: Job,
    lease: &Lease,
    metrics: &Metrics,
) {
    let start = Instant::now();
    let span = tracing::info_span!(
        "job", job_id = %job.id, org_id = %job.org_id, kind = job.kind, attempt = job.attempt, max_attempts = job.max_attempts
    );
    async {
        let ended = work(queue, handler.as_ref(), &job, lease).await;
        let outcome = record(queue, handler.as_ref(), &job, lease, ended).await;
        let took = start.elapsed();
        metrics.job_ended(&job.kind, outcome, took);
        tracing::info!(
            outcome = outcome.name(),
            took_ms = took.as_millis() as u64,
            "the job ended"
        );
    }
    .instrument(span)
    .await;
}

async fn work(queue: &Queue, handler: &dyn Handler, job: &Job, lease: &Lease) -> Ended {
    let handled = AssertUnwindSafe(handler.run(queue, job)).catch_unwind();
    tokio::select! {
        biased;
        reason = lease.stopped() => Ended::Stopped(reason),
        handled = tokio::time::timeout(job.timeout, handled) => match handled {
            Err(_) => Ended::Failed(timed_out(job.timeout)),
            Ok(Err(_)) => Ended::Failed(Failure::internal()), // the panic hook has logged the cause
            Ok(Ok(Ok(result))) => Ended::Done(result),
            Ok(Ok(Err(HandlerError::Failed(failure)))) => Ended::Failed(failure),
            Ok(Ok(Err(HandlerError::Gone))) => Ended::Gone,
            Ok(Ok(Err(HandlerError::Database(error)))) => {
                tracing::error!(%error, "the job could not ask the database");
                Ended::Failed(Failure::internal())
            }
        },
    }
}

async fn record(
    queue: &Queue,
    handler: &dyn Handler,
    job: &Job,
    lease: &Lease,
    ended: Ended,
) -> Outcome {
    match ended {
        Ended::Done(result) => record_success(queue, handler, job, lease, &result).await,
        Ended::Failed(failure) => record_failure(queue, handler, job, lease, &failure).await,
        Ended::Stopped(Stop::Cancelled) => {
            record_failure(queue, handler, job, lease, &cancelled()).await
        }
        Ended::Stopped(Stop::Shutdown) => release(queue, handler, job, lease).await,
        Ended::Stopped(Stop::LeaseLost) => Outcome::LeaseLost,
        Ended::Gone => Outcome::Gone,
    }
}

async fn record_success(
    queue: &Queue,
    handler: &dyn Handler,
    job: &Job,
    lease: &Lease,
    result: &Value,
) -> Outcome {
    match while_leased(queue, lease, || handler.record_success(queue, job, result)).await {
        Ok(true) => Outcome::Succeeded,
        Ok(false) => Outcome::Gone,
        Err(Unrecorded::LeaseLost) => Outcome::LeaseLost,
        Err(Unrecorded::Refused(error)) => {
            tracing::error!(%error, "the database does not take the result");
            record_failure(queue, handler, job, lease, &Failure::internal()).await
        }
    }
}

async fn record_failure(
    queue: &Queue,
    handler: &dyn Handler,
    job: &Job,
    lease: &Lease,
    failure: &Failure,
) -> Outcome {
    tracing::info!(code = %failure.code, retryable = failure.retryable, "the job failed");
    match while_leased(queue, lease, || handler.record_failure(queue, job, failure)).await {
        Ok(Some(status)) => Outcome::of_status(&status),
        Ok(None) | Err(Unrecorded::LeaseLost) => Outcome::LeaseLost,
        Err(Unrecorded::Refused(error)) => {
            tracing::error!(%error, "the database does not take the failure; the lease will end by itself");
            Outcome::LeaseLost
        }
    }
}

async fn release(queue: &Queue, handler: &dyn Handler, job: &Job, lease: &Lease) -> Outcome {
    match while_leased(queue, lease, || handler.record_release(queue, job)).await {
        Ok(true) => Outcome::Released,
        Ok(false) | Err(Unrecorded::LeaseLost) => Outcome::LeaseLost,
        Err(Unrecorded::Refused(error)) => {
            tracing::error!(%error, "the database does not take the job back; the lease will end by itself");
            Outcome::LeaseLost
        }
    }
}

/// Why something could not be recorded.
enum Unrecorded {
    LeaseLost,
    Refused(DbError),
}

/// Retries until the result is recorded, the database refuses it (permanently, or for too long), or the lease ends. A repeated
/// call after a lost answer is harmless: by then the job is no longer ours.
async fn while_leased<T, F>(
    queue: &Queue,
    lease: &Lease,
    write: impl Fn() -> F,
) -> Result<T, Unrecorded>
where
    F: Future<Output = Result<T, DbError>>,
{
    tokio::select! {
        biased;
        () = lease.expired() => Err(Unrecorded::LeaseLost),
        written = persist(queue.patience(), write) => written.map_err(Unrecorded::Refused),
    }
}

fn timed_out(limit: Duration) -> Failure {
    Failure {
        code: "timeout".into(),
        message: format!("it took longer than {} seconds", limit.as_secs()),
        retryable: true,
        retry_after: None,
        outage: false,
    }
}

/// The database knows that it was asked for, so the failure ends as a cancellation there.
fn cancelled() -> Failure {
    Failure {
        code: "cancelled".into(),
        message: "cancelled while running".to_owned(),
        retryable: false,
        retry_after: None,
        outage: false,
    }
}
