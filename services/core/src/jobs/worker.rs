//! The loop that claims jobs, and their end at shutdown.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    config::WorkerConfig,
    heartbeat,
    job::Job,
    leases::{Leases, Stop},
    metrics::JobSeries,
    queue::Queue,
    registry::Registry,
    runner,
    slots::{Free, Halves, Slots},
};
use crate::{
    backoff::{Backoff, shorten},
    db::{DbError, Wakeups},
};

/// Delay to the next poll after one that found jobs, or after a notification. The database relies on it: shortly after
/// either, jobs are queued without a notification, since transactions that notify commit one after the other.
const MIN_POLL: Duration = Duration::from_millis(1);

/// Later polls follow less and less often, up to the poll interval. A job that commits late waits for at most a quarter of
/// the time that has passed since.
fn poll_after(since: Duration) -> Duration {
    (since / 4).max(2 * MIN_POLL)
}

/// While only jobs of some kinds may be claimed, claims follow at least so far apart: notifications of others wake the worker, too.
const MIN_CLASS_POLL: Duration = Duration::from_millis(20);

/// A job that takes longer to be recorded leaves its slot to another one: perhaps its organization's rows are held.
const SLOW_RECORD: Duration = Duration::from_secs(1);

/// How long handing jobs back at shutdown may take after they were stopped.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// One worker process.
pub struct Worker {
    queue: Queue,
    registry: Registry,
    kinds: Vec<String>,
    short_kinds: Vec<String>,
    long_kinds: Vec<String>,
    slots: Slots,
    halves: Halves,
    config: WorkerConfig,
    leases: Arc<Leases>,
    wakeups: Arc<Wakeups>,
    series: Arc<JobSeries>,
    jobs: TaskTracker,
}

impl Worker {
    /// A worker for the kinds of this registry. `leases` are shared with those who count them.
    pub fn new(
        queue: Queue,
        registry: Registry,
        config: WorkerConfig,
        leases: Arc<Leases>,
        wakeups: Arc<Wakeups>,
        series: Arc<JobSeries>,
    ) -> Self {
        let kinds = registry.kinds();
        let (short_kinds, long_kinds) = (registry.short_kinds(), registry.long_kinds());
        wakeups.only_for(kinds.clone());
        let slots = Slots::new(&config, &registry);
        Self {
            queue,
            slots,
            halves: Halves::new(slots, &registry),
            registry,
            kinds,
            short_kinds,
            long_kinds,
            config,
            leases,
            wakeups,
            series,
            jobs: TaskTracker::new(),
        }
    }

    /// Whether it has anything to do: it may run jobs, and there are kinds of jobs.
    pub fn is_active(&self) -> bool {
        self.config.concurrency > 0 && !self.kinds.is_empty()
    }

    /// Claims and runs jobs until `stop`, then lets the running ones finish within the grace period and hands back the
    /// rest. Heartbeats go on until the last job has ended.
    pub async fn run(&self, stop: CancellationToken) {
        let drained = CancellationToken::new();
        let heartbeats = heartbeat::run(
            &self.queue,
            &self.leases,
            &self.wakeups,
            &self.series,
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
        let mut next_poll = self.config.poll;
        let mut active_at = Instant::now();
        while !stop.is_cancelled() {
            let free = self.slots.free(self.leases.running());
            let mut pause = shorten(self.config.poll, 0.2);
            let (limit, kinds) = match free {
                Free::Any(limit) => (limit, &self.kinds),
                Free::Short(limit) => (limit, &self.short_kinds),
                Free::Long(limit) => (limit, &self.long_kinds),
                Free::None => (0, &self.kinds),
            };
            let (limit, open) = self.halves.narrow(limit, kinds);
            let is_narrowed = open.len() < kinds.len();
            if limit == 0 {
                next_poll = MIN_POLL;
                active_at = Instant::now();
            } else {
                match self.claim(limit, &open).await {
                    Ok(claimed) => {
                        backoff.reset();
                        if claimed > 0 {
                            next_poll = MIN_POLL;
                            active_at = Instant::now();
                        }
                        more = claimed == limit;
                        if more {
                            continue;
                        }
                        pause = pause.min(next_poll);
                        next_poll = poll_after(active_at.elapsed());
                    }
                    Err(error) => {
                        pause = backoff.next_delay();
                        self.series.claim_failures.inc();
                        tracing::warn!(%error, retry_in_ms = pause.as_millis() as u64, "no jobs claimed");
                        pause_or_stop(pause, stop).await;
                        continue;
                    }
                }
            }
            let full = is_narrowed || !matches!(free, Free::Any(_));
            let is_part = is_narrowed || matches!(free, Free::Short(_) | Free::Long(_));
            if is_part && self.slot_freed_within(MIN_CLASS_POLL, stop).await {
                continue;
            }
            if self.wait_for_wakeup(pause, full || more, stop).await {
                next_poll = MIN_POLL;
                active_at = Instant::now();
            }
        }
    }

    /// True when it is a notification.
    async fn wait_for_wakeup(
        &self,
        poll: Duration,
        slots_matter: bool,
        stop: &CancellationToken,
    ) -> bool {
        tokio::select! {
            () = stop.cancelled() => false,
            () = tokio::time::sleep(poll) => false,
            () = self.wakeups.jobs.notified() => true,
            () = self.leases.slot_freed(), if slots_matter => false,
        }
    }

    async fn slot_freed_within(&self, limit: Duration, stop: &CancellationToken) -> bool {
        tokio::select! {
            () = stop.cancelled() => false,
            () = tokio::time::sleep(limit) => false,
            () = self.leases.slot_freed() => true,
        }
    }

    async fn claim(&self, limit: usize, kinds: &[String]) -> Result<usize, DbError> {
        let asked_at = Instant::now();
        let jobs = self.queue.claim(limit, kinds).await?;
        let claimed = jobs.len();
        for job in jobs {
            self.series.job_claimed(&job.kind, job.waited);
            self.start(job, asked_at);
        }
        Ok(claimed)
    }

    fn start(&self, job: Job, claimed_at: Instant) {
        let Some(registered) = self.registry.find(&job.kind) else {
            tracing::error!(kind = job.kind, "a job of a kind that was not asked for");
            return;
        };
        let until = claimed_at + self.queue.lease();
        let (lease, earlier) = self.leases.enter(job.id, registered.class, until);
        let (queue, leases, series) =
            (self.queue.clone(), self.leases.clone(), self.series.clone());
        let (half, slots) = (self.halves.enter(&job.kind), self.slots.total());
        self.jobs.spawn(async move {
            if let Some(earlier) = earlier {
                earlier.ended().await;
            }
            let running = runner::run(&queue, registered.handler, job, &lease, &series);
            let mut running = std::pin::pin!(running);
            tokio::select! {
                () = &mut running => {}
                () = lease.recorded_for(SLOW_RECORD) => {
                    drop(half);
                    leases.park(&lease, slots);
                    running.await;
                }
            }
            leases.leave(&lease);
        });
    }

    async fn drain(&self) {
        self.jobs.close();
        let count = self.leases.count();
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
            running = self.leases.count(),
            "handing back the jobs that did not finish"
        );
        self.leases.stop_all(Stop::Shutdown);
        if tokio::time::timeout(RELEASE_LIMIT, self.jobs.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                running = self.leases.count(),
                "not all jobs could be handed back; their leases will expire"
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
