//! One job from start to record.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::{Instrument, Level};

use super::{
    job::{Failure, HandlerError, Job},
    leases::{Lease, Stop},
    metrics::{JobSeries, Outcome},
    queue::Queue,
    registry::AnyHandler,
};
use crate::{
    backoff::shorten,
    db::{DbError, on_behalf_of, retry_transient},
    telemetry::canonical::{self, Subject},
};

/// How long a result may take to be recorded if its kind says so ([`super::JobKind::RECORDS_FOR_LONG`]).
const LONG_RECORD: Duration = Duration::from_secs(900);

/// A job that another transaction holds is claimed again after about this time.
const HELD_PAUSE: Duration = Duration::from_secs(5);
/// How long handing it back may take.
const HELD_RELEASE: Duration = Duration::from_secs(2);

/// How the work ended, before anything is recorded.
#[derive(Debug)]
enum Ended {
    Done(Value),
    Failed(Failure),
    Stopped(Stop),
    Superseded,
    Held,
}

/// Runs the job, records how it ended, and writes its canonical line. A panic of the handler is this job's failure, not the
/// worker's.
pub async fn run(
    queue: &Queue,
    handler: Arc<dyn AnyHandler>,
    job: Job,
    lease: &Lease,
    series: &JobSeries,
) {
    let start = Instant::now();
    let fields = canonical::Fields::of(job.id.to_string(), None);
    let span = tracing::info_span!(
        "job", job_id = %job.id, org_id = %job.org_id, kind = job.kind, attempt = job.attempt
    );
    let outcome = canonical::scope(fields.clone(), async {
        on_behalf_of(Some(job.org_id), async {
            let ended = work(queue, handler.as_ref(), &job, lease).await;
            lease.work_ended();
            record(queue, handler.as_ref(), &job, lease, ended).await
        })
        .await
    })
    .instrument(span)
    .await;
    let duration = start.elapsed();
    series.job_ended(&job.kind, outcome, duration);
    write_line(&job, outcome, duration, &fields);
}

fn write_line(job: &Job, outcome: Outcome, duration: Duration, fields: &canonical::Fields) {
    let level = match outcome {
        Outcome::LeaseLost => Level::WARN,
        _ => Level::INFO,
    };
    let own = [
        ("job_id", json!(job.id)),
        ("org_id", json!(job.org_id)),
        ("kind", json!(job.kind)),
        ("attempt", json!(job.attempt)),
        ("max_attempts", json!(job.max_attempts)),
        ("outcome", json!(outcome.name())),
        ("duration_ms", json!(duration.as_millis() as u64)),
        ("waited_ms", json!(job.waited.as_millis() as u64)),
    ];
    canonical::write(Subject::Job, level, fields, own);
}

async fn work(queue: &Queue, handler: &dyn AnyHandler, job: &Job, lease: &Lease) -> Ended {
    let handled = AssertUnwindSafe(handler.run(queue, job)).catch_unwind();
    tokio::select! {
        biased;
        reason = lease.stopped() => Ended::Stopped(reason),
        handled = tokio::time::timeout(job.timeout, handled) => match handled {
            Err(_) => Ended::Failed(timed_out(job.timeout)),
            Ok(Err(_)) => Ended::Failed(Failure::internal()), // the panic hook has logged the cause
            Ok(Ok(Ok(result))) => Ended::Done(result),
            Ok(Ok(Err(HandlerError::Failed(failure)))) => Ended::Failed(failure),
            Ok(Ok(Err(HandlerError::Superseded))) => Ended::Superseded,
            Ok(Ok(Err(HandlerError::Held))) => Ended::Held,
            Ok(Ok(Err(HandlerError::Database(error)))) => {
                tracing::error!(%error, "the job could not ask the database");
                Ended::Failed(Failure::internal())
            }
        },
    }
}

async fn record(
    queue: &Queue,
    handler: &dyn AnyHandler,
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
        Ended::Stopped(Stop::Shutdown) => release(queue, handler, job, lease, Duration::ZERO).await,
        Ended::Held => {
            // If the job's own row is held, too, its lease expires.
            let released = release(queue, handler, job, lease, shorten(HELD_PAUSE, 0.5));
            let released = tokio::time::timeout(HELD_RELEASE, released).await;
            released.unwrap_or(Outcome::LeaseLost)
        }
        Ended::Stopped(Stop::LeaseLost) => Outcome::LeaseLost,
        Ended::Superseded => Outcome::Superseded,
    }
}

async fn record_success(
    queue: &Queue,
    handler: &dyn AnyHandler,
    job: &Job,
    lease: &Lease,
    result: &Value,
) -> Outcome {
    let write = || handler.record_success(queue, job, result);
    let recorded = match handler.records_for_long() {
        false => while_leased(queue, lease, write).await,
        true => tokio::time::timeout(LONG_RECORD, retry_transient(queue.retry_limit(), write))
            .await
            .map_or(Err(Unrecorded::LeaseLost), |written| {
                written.map_err(Unrecorded::Refused)
            }),
    };
    match recorded {
        Ok(true) => Outcome::Succeeded,
        Ok(false) => Outcome::Superseded,
        Err(Unrecorded::LeaseLost) => Outcome::LeaseLost,
        Err(Unrecorded::Refused(error)) => {
            tracing::error!(%error, "the database refused the result");
            record_failure(queue, handler, job, lease, &Failure::internal()).await
        }
    }
}

async fn record_failure(
    queue: &Queue,
    handler: &dyn AnyHandler,
    job: &Job,
    lease: &Lease,
    failure: &Failure,
) -> Outcome {
    canonical::add("error_code", failure.code.as_ref());
    canonical::add("retryable", failure.retryable);
    match while_leased(queue, lease, || handler.record_failure(queue, job, failure)).await {
        Ok(Some(status)) => Outcome::of_status(&status),
        Ok(None) | Err(Unrecorded::LeaseLost) => Outcome::LeaseLost,
        Err(Unrecorded::Refused(error)) => {
            tracing::error!(%error, "the failure was not recorded; the lease will expire");
            Outcome::LeaseLost
        }
    }
}

async fn release(
    queue: &Queue,
    handler: &dyn AnyHandler,
    job: &Job,
    lease: &Lease,
    pause: Duration,
) -> Outcome {
    // Not by the organization's share, which may be what the job waits for.
    let release = || on_behalf_of(None, handler.record_release(queue, job, pause));
    match while_leased(queue, lease, release).await {
        Ok(true) => Outcome::Released,
        Ok(false) | Err(Unrecorded::LeaseLost) => Outcome::LeaseLost,
        Err(Unrecorded::Refused(error)) => {
            tracing::error!(%error, "the job was not released; the lease will expire");
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
        written = retry_transient(queue.retry_limit(), write) => written.map_err(Unrecorded::Refused),
    }
}

fn timed_out(limit: Duration) -> Failure {
    let seconds = limit.as_secs();
    Failure::transient("timeout", format!("it took longer than {seconds} seconds"))
}

/// The database knows that a cancellation was requested, so the failure ends as one there.
fn cancelled() -> Failure {
    Failure::permanent("cancelled", "cancelled while running")
}
