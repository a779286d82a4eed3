//! The loop that claims jobs, and their end at shutdown.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Handler, Job, Queue, heartbeat, runner,
    running::{Running, Stop},
};
use crate::{
    backoff::{Backoff, shorten},
    config::WorkerConfig,
    db::Wakeups,
    telemetry::Metrics,
};

/// Delay to the next poll after one that found jobs, or after a notification. The database relies on it: shortly after
/// either, jobs are queued without a notification, since transactions that notify commit one after the other.
const TRAIL: Duration = Duration::from_millis(1);

/// Later polls follow less and less often, up to the poll interval. A job that commits late waits for at most a quarter of
/// the time that has passed since.
fn next_look(since: Duration) -> Duration {
    (since / 4).max(2 * TRAIL)
}

/// How long handing jobs back at shutdown may take after they were told to stop.
const HAND_BACK: Duration = Duration::from_secs(5);

/// One worker process.
pub struct Worker {
    queue: Queue,
    handlers: HashMap<String, Arc<dyn Handler>>,
    kinds: Vec<String>,
    config: WorkerConfig,
    running: Arc<Running>,
    wakeups: Arc<Wakeups>,
    metrics: Metrics,
    jobs: TaskTracker,
}

impl Worker {
    /// A worker for the kinds of these handlers.
    pub fn new(
        queue: Queue,
        handlers: Vec<Arc<dyn Handler>>,
        config: WorkerConfig,
        wakeups: Arc<Wakeups>,
        metrics: Metrics,
    ) -> Self {
        let handlers: HashMap<_, _> = handlers
            .into_iter()
            .flat_map(|handler| {
                handler
                    .kinds()
                    .into_iter()
                    .map(move |kind| (kind, handler.clone()))
            })
            .collect();
        // The same order in all workers: claims for the same kinds share the tenants' turns.
        let mut kinds: Vec<_> = handlers.keys().cloned().collect();
        kinds.sort();
        wakeups.only_for(kinds.clone());
        Self {
            queue,
            handlers,
            kinds,
            config,
            running: Arc::default(),
            wakeups,
            metrics,
            jobs: TaskTracker::new(),
        }
    }

    /// The jobs that run here, for readiness and metrics.
    pub fn running(&self) -> Arc<Running> {
        self.running.clone()
    }

    /// Claims and runs jobs until `stop`, then lets the running ones finish within the grace period and hands back the
    /// rest. Heartbeats go on until the last job has ended.
    pub async fn run(&self, stop: CancellationToken) {
        let drained = CancellationToken::new();
        let heartbeats = heartbeat::run(
            &self.queue,
            &self.running,
            &self.wakeups,
            &self.metrics,
            drained.clone(),
        );
        let life = async {
            self.claim_until(&stop).await;
            self.drain().await;
            drained.cancel();
        };
        tokio::join!(life, heartbeats);
    }

    async fn claim_until(&self, stop: &CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(15));
        // More may be waiting than we could take, so a freed slot is a reason to look again.
        let mut more = false;
        let mut trail = self.config.poll;
        let mut reason_at = Instant::now();
        while !stop.is_cancelled() {
            let free = self.config.concurrency.saturating_sub(self.running.count());
            let mut pause = shorten(self.config.poll, 0.2);
            if free == 0 {
                trail = TRAIL;
                reason_at = Instant::now();
            } else {
                match self.claim(free).await {
                    Ok(claimed) => {
                        backoff.reset();
                        if claimed > 0 {
                            trail = TRAIL;
                            reason_at = Instant::now();
                        }
                        more = claimed == free;
                        if more {
                            continue;
                        }
                        pause = pause.min(trail);
                        trail = next_look(reason_at.elapsed());
                    }
                    Err(error) => {
                        pause = backoff.next_delay();
                        self.metrics.claim_failures.inc();
                        tracing::warn!(%error, retry_in_ms = pause.as_millis() as u64, "no jobs claimed");
                        pause_or_stop(pause, stop).await;
                        continue;
                    }
                }
            }
            if self.wait_for_a_reason(pause, free == 0 || more, stop).await {
                trail = TRAIL;
                reason_at = Instant::now();
            }
        }
    }

    /// True when it is a notification.
    async fn wait_for_a_reason(
        &self,
        poll: Duration,
        slots_matter: bool,
        stop: &CancellationToken,
    ) -> bool {
        tokio::select! {
            () = stop.cancelled() => false,
            () = tokio::time::sleep(poll) => false,
            () = self.wakeups.jobs.notified() => true,
            () = self.running.slot_freed(), if slots_matter => false,
        }
    }

    async fn claim(&self, free: usize) -> Result<usize, crate::db::DbError> {
        let asked_at = Instant::now();
        let jobs = self.queue.claim(free, &self.kinds).await?;
        let claimed = jobs.len();
        for job in jobs {
            self.metrics.job_claimed(&job.kind, job.waited);
            self.start(job, asked_at);
        }
        Ok(claimed)
    }

    fn start(&self, job: Job, claimed_at: Instant) {
        let Some(handler) = self.handlers.get(&job.kind).cloned() else {
            tracing::error!(kind = job.kind, "a job of a kind that was not asked for");
            return;
        };
        let (lease, earlier) = self.running.enter(job.id, claimed_at + self.queue.lease());
        let (queue, running, metrics) = (
            self.queue.clone(),
            self.running.clone(),
            self.metrics.clone(),
        );
        self.jobs.spawn(async move {
            if let Some(earlier) = earlier {
                earlier.ended().await;
            }
            runner::run(&queue, handler, job, &lease, &metrics).await;
            running.leave(&lease);
        });
    }

    async fn drain(&self) {
        self.jobs.close();
        let count = self.running.count();
        if count > 0 {
            tracing::info!(
                running = count,
                grace_seconds = self.config.shutdown_grace.as_secs(),
                "waiting for running jobs"
            );
        }
        if tokio::time::timeout(self.config.shutdown_grace, self.jobs.wait())
            .await
            .is_ok()
        {
            return;
        }
        tracing::warn!(
            running = self.running.count(),
            "handing back the jobs that did not finish"
        );
        self.running.stop_all(Stop::Shutdown);
        if tokio::time::timeout(HAND_BACK, self.jobs.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                running = self.running.count(),
                "not all jobs could be handed back; their leases end by themselves"
            );
        }
    }
}

async fn pause_or_stop(pause: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(pause) => {}
    }
}
