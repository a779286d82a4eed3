//! The worker's settings.

use std::time::Duration;

use crate::config::Reader;

/// The worker's settings.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// How many jobs run at once; 0 means that this process only serves HTTP.
    pub concurrency: usize,
    /// How many short jobs run beyond these, so that long ones never hold them up.
    pub short_slots: usize,
    /// How long a claimed job stays ours without a heartbeat.
    pub lease: Duration,
    /// How often to look for jobs when no notification comes.
    pub poll: Duration,
    /// How long a transient error of the database is retried before the attempt counts as failed.
    pub retry_limit: Duration,
    /// How long running jobs may go on after SIGTERM before they are handed back.
    pub shutdown_grace: Duration,
    /// Readiness becomes degraded when the oldest due job has waited longer.
    pub queue_age_warning: Duration,
}

impl WorkerConfig {
    pub(crate) fn read(env: &mut Reader<'_>) -> Self {
        Self {
            concurrency: env.number("KIJKO_WORKER_CONCURRENCY", 8, 0..=1_000) as usize,
            short_slots: env.number("KIJKO_WORKER_SHORT_SLOTS", 2, 0..=1_000) as usize,
            lease: env.seconds("KIJKO_LEASE_SECONDS", 60, 2..=3_600),
            poll: env.seconds("KIJKO_POLL_SECONDS", 5, 1..=300),
            retry_limit: env.seconds("KIJKO_RECORD_SECONDS", 60, 1..=3_600),
            shutdown_grace: env.seconds("KIJKO_SHUTDOWN_SECONDS", 25, 0..=3_600),
            queue_age_warning: env.seconds("KIJKO_QUEUE_AGE_WARN_SECONDS", 300, 1..=86_400),
        }
    }
}
