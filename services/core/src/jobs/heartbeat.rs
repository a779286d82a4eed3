//! Keeping the leases alive: one call for all running jobs, three times a lease, and at once after a cancellation.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{leases::Leases, metrics::JobSeries, queue::Queue};
use crate::{
    backoff::Backoff,
    db::{DbError, Wakeups},
};

/// Runs until `stop`. It has a task of its own: a claim that hangs must not cost the leases of running jobs.
pub async fn run(
    queue: &Queue,
    leases: &Leases,
    wakeups: &Wakeups,
    series: &JobSeries,
    stop: CancellationToken,
) {
    let interval = queue.lease() / 3;
    let mut backoff = Backoff::new(Duration::from_millis(200), interval);
    let mut wait = interval;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            () = wakeups.cancels.notified() => {}
        }
        wait = match beat(queue, leases).await {
            Ok(true) => {
                backoff.reset();
                interval
            }
            // Another transaction held a row; usually only briefly.
            Ok(false) => backoff.next_delay(),
            Err(error) => {
                series.heartbeat_failures.inc();
                let delay = backoff.next_delay();
                tracing::warn!(%error, retry_in_ms = delay.as_millis() as u64, "no heartbeat");
                delay
            }
        };
    }
}

/// Whether all leases that are still ours were extended.
async fn beat(queue: &Queue, leases: &Leases) -> Result<bool, DbError> {
    let leases = leases.snapshot();
    if leases.is_empty() {
        return Ok(true);
    }
    let asked_at = Instant::now();
    let ids: Vec<_> = leases.iter().map(|lease| lease.id).collect();
    let answer = queue.heartbeat(&ids).await?;
    // Only the leases that were asked about: a job claimed meanwhile is not in the answer, and not lost.
    leases
        .iter()
        .for_each(|lease| lease.apply(&answer, asked_at, queue.lease()));
    Ok(answer.values().all(|beat| beat.extended))
}
