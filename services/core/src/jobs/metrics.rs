//! What operators see of the queue and of this process' worker.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use prometheus_client::metrics::{counter::Counter, family::Family};

use super::{
    leases::Leases,
    queue::{self, QueueStats},
};
use crate::{
    db::Db,
    telemetry::metrics::{
        EncodeLabelSet, Gauges, Histograms, Registry, Series, Unit, WORK_SECONDS, histograms,
    },
};

const WAIT_SECONDS: [f64; 11] = [
    0.002, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0,
];

/// How a job ended here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Succeeded,
    /// It failed and will be retried.
    Retried,
    /// It failed for good.
    Dead,
    /// A user cancelled it.
    Cancelled,
    /// It was handed back at shutdown, or because another transaction held its rows.
    Released,
    /// The lease was lost; nothing was recorded here.
    LeaseLost,
    /// There was nothing (more) to do: it was cancelled or taken over, or its result was not taken as a success.
    Superseded,
}

impl Outcome {
    /// The label's value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Retried => "retried",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Released => "released",
            Self::LeaseLost => "lease_lost",
            Self::Superseded => "superseded",
        }
    }

    /// From the status that the database gave the job after a failure.
    pub fn of_status(status: &str) -> Self {
        match status {
            "queued" => Self::Retried,
            "cancelled" => Self::Cancelled,
            _ => Self::Dead,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobLabels {
    kind: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SlotLabels {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    kind: String,
    state: &'static str,
}

/// Jobs and the worker.
pub struct JobSeries {
    db: Db,
    leases: Arc<Leases>,
    slots: usize,
    ended: Family<JobLabels, Counter>,
    durations: Histograms<KindLabels>,
    waits: Histograms<KindLabels>,
    queue: Gauges<QueueLabels>,
    queue_age: Gauges<KindLabels>,
    queue_overdue: Gauges<KindLabels>,
    /// Kinds that this worker runs or has seen in the queue: one that drains stays at 0.
    kinds: Mutex<BTreeSet<String>>,
    worker_slots: Gauges<SlotLabels>,
    /// Heartbeats that failed.
    pub heartbeat_failures: Counter,
    /// Claims that failed.
    pub claim_failures: Counter,
}

impl JobSeries {
    /// Of a worker that runs at most `slots` jobs at once.
    pub fn new(db: Db, leases: Arc<Leases>, slots: usize) -> Self {
        Self {
            db,
            leases,
            slots,
            ended: Family::default(),
            durations: histograms(&WORK_SECONDS),
            waits: histograms(&WAIT_SECONDS),
            queue: Gauges::default(),
            queue_age: Gauges::default(),
            queue_overdue: Gauges::default(),
            kinds: Mutex::default(),
            worker_slots: Gauges::default(),
            heartbeat_failures: Counter::default(),
            claim_failures: Counter::default(),
        }
    }

    /// One job that was claimed here, so long after it was due.
    pub fn job_claimed(&self, kind: &str, waited: Duration) {
        let kind = kind.to_owned();
        self.waits
            .get_or_create(&KindLabels { kind })
            .observe(waited.as_secs_f64());
    }

    /// One job that ended here.
    pub fn job_ended(&self, kind: &str, outcome: Outcome, duration: Duration) {
        let (kind, outcome) = (kind.to_owned(), outcome.name());
        let labels = KindLabels { kind: kind.clone() };
        self.durations
            .get_or_create(&labels)
            .observe(duration.as_secs_f64());
        self.ended.get_or_create(&JobLabels { kind, outcome }).inc();
    }

    /// Kinds that have samples from the first scrape on, also while nothing of them is queued.
    pub fn add_kinds(&self, kinds: impl IntoIterator<Item = String>) {
        self.known_kinds().extend(kinds);
    }

    fn known_kinds(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the database reported, and the other known kinds at 0.
    fn with_idle(&self, stats: Vec<QueueStats>) -> Vec<QueueStats> {
        let mut known = self.known_kinds();
        known.extend(stats.iter().map(|stats| stats.kind.clone()));
        let idle = known
            .iter()
            .filter(|kind| stats.iter().all(|stats| stats.kind != **kind))
            .map(|kind| QueueStats::idle(kind.clone()))
            .collect::<Vec<_>>();
        stats.into_iter().chain(idle).collect()
    }

    /// `None` when the database did not answer: no sample is better than a stale one.
    fn set_queue(&self, stats: Option<Vec<QueueStats>>) {
        self.queue.clear();
        self.queue_age.clear();
        self.queue_overdue.clear();
        for stats in stats.into_iter().flat_map(|stats| self.with_idle(stats)) {
            let kind = stats.kind;
            for (state, count) in [
                ("queued", stats.queued),
                ("running", stats.running),
                ("dead", stats.dead),
            ] {
                let kind = kind.clone();
                self.queue
                    .get_or_create(&QueueLabels { kind, state })
                    .set(count as f64);
            }
            let labels = KindLabels { kind };
            self.queue_age
                .get_or_create(&labels)
                .set(stats.oldest_queued_seconds);
            self.queue_overdue
                .get_or_create(&labels)
                .set(stats.overdue as f64);
        }
    }
}

impl Series for JobSeries {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "jobs",
            "Jobs that ended in this process",
            self.ended.clone(),
        );
        registry.register_with_unit(
            "job_duration",
            "Time from claim to record",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register_with_unit(
            "job_pickup_delay",
            "Time from when a job was due until this process claimed it",
            Unit::Seconds,
            self.waits.clone(),
        );
        registry.register(
            "queue_jobs",
            "Jobs in the queue, in the whole database",
            self.queue.clone(),
        );
        registry.register_with_unit(
            "queue_oldest",
            "Age of the oldest job that is due",
            Unit::Seconds,
            self.queue_age.clone(),
        );
        registry.register(
            "queue_overdue_leases",
            "Jobs whose lease has ended, in the whole database",
            self.queue_overdue.clone(),
        );
        registry.register(
            "worker_slots",
            "Slots of this process' worker",
            self.worker_slots.clone(),
        );
        registry.register(
            "worker_heartbeat_failures",
            "Heartbeats that failed",
            self.heartbeat_failures.clone(),
        );
        registry.register(
            "worker_claim_failures",
            "Claims that failed",
            self.claim_failures.clone(),
        );
    }

    fn refresh(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            for (state, count) in [("running", self.leases.count()), ("max", self.slots)] {
                self.worker_slots
                    .get_or_create(&SlotLabels { state })
                    .set(count as f64);
            }
            let stats = queue::stats(&self.db).await;
            if let Err(error) = &stats {
                tracing::warn!(%error, "metrics without the queue");
            }
            self.set_queue(stats.ok());
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{db, telemetry::metrics::Metrics};

    fn series() -> Arc<JobSeries> {
        Arc::new(JobSeries::new(db::unreachable(), Arc::default(), 8))
    }

    fn text(series: &Arc<JobSeries>) -> String {
        let metrics = Metrics::new(crate::Service::TEST, vec![series.clone()]);
        metrics.encode().unwrap()
    }

    fn stats() -> QueueStats {
        QueueStats {
            kind: "mail".into(),
            queued: 4,
            running: 1,
            dead: 2,
            oldest_queued_seconds: 7.5,
            overdue: 1,
        }
    }

    #[tokio::test]
    async fn every_series_has_its_labels() {
        let series = series();
        series.job_claimed("mail", Duration::from_millis(4));
        series.job_ended("mail", Outcome::Retried, Duration::from_secs(1));
        series.set_queue(Some(vec![stats()]));
        let text = text(&series);
        for line in [
            r#"kijko_jobs_total{kind="mail",outcome="retried"} 1"#,
            r#"kijko_job_pickup_delay_seconds_bucket{le="0.002",kind="mail"} 0"#,
            r#"kijko_job_pickup_delay_seconds_bucket{le="0.005",kind="mail"} 1"#,
            r#"kijko_queue_jobs{kind="mail",state="dead"} 2"#,
            r#"kijko_queue_oldest_seconds{kind="mail"} 7.5"#,
            r#"kijko_queue_overdue_leases{kind="mail"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[tokio::test]
    async fn idle_queues_stay_at_zero() {
        let series = series();
        series.add_kinds(["execution".to_owned()]);
        series.set_queue(Some(vec![stats()]));
        let busy = text(&series);
        series.set_queue(Some(vec![]));
        let drained = text(&series);
        for (text, line) in [
            (
                &busy,
                r#"kijko_queue_jobs{kind="execution",state="queued"} 0"#,
            ),
            (&drained, r#"kijko_queue_jobs{kind="mail",state="dead"} 0"#),
            (&drained, r#"kijko_queue_oldest_seconds{kind="mail"} 0"#),
            (&drained, r#"kijko_queue_overdue_leases{kind="mail"} 0"#),
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[tokio::test]
    async fn an_unknown_depth_has_no_sample() {
        let series = series();
        series.set_queue(Some(vec![stats()]));
        series.set_queue(None);
        assert!(!text(&series).contains("kijko_queue_jobs{"));
    }
}
