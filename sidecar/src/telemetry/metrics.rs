//! Counters, gauges and histograms for `/metrics`. What each means for an operator is in docs/operations/sidecar.md.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
        info::Info,
    },
    registry::{Registry, Unit},
};

use super::{
    StripeMetrics,
    vendors::{VendorHealth, Vendors},
};
use crate::{
    db::PoolUse,
    jobs::queue::QueueStats,
    llm::{LlmError, Progress},
};

const REQUEST_SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0];
const WAIT_SECONDS: [f64; 11] = [
    0.002, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0,
];
const WORK_SECONDS: [f64; 11] = [
    0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

type Gauges<L> = Family<L, Gauge<f64, std::sync::atomic::AtomicU64>>;
type Histograms<L> = Family<L, Histogram, Buckets>;

/// How a job ended here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Succeeded,
    /// It failed and will be tried again.
    Retried,
    /// It failed for good.
    Dead,
    /// Someone cancelled it.
    Cancelled,
    /// It was handed back at shutdown.
    Released,
    /// The lease was lost; nothing was recorded here.
    LeaseLost,
    /// The database had nothing (more) to do: cancelled, superseded, or a result it did not take as a success.
    Gone,
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
            Self::Gone => "gone",
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
struct RequestLabels {
    method: String,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: String,
    route: String,
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
struct StateLabels {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    kind: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    provider: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProviderLabels {
    provider: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    provider: &'static str,
    direction: &'static str,
}

/// Makes histograms with fixed buckets.
#[derive(Debug, Clone, Copy)]
struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// What is known of the queue at the time of a scrape.
#[derive(Debug, Clone, Default)]
pub struct QueueGauges {
    /// `None` when the database did not answer.
    pub stats: Option<Vec<QueueStats>>,
    /// Whether notifications arrive.
    pub listening: bool,
    /// Jobs that run in this process.
    pub running_here: usize,
    /// How many may.
    pub slots: usize,
}

/// All metrics. Cloning shares them.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Histograms<RouteLabels>,
    jobs: Family<JobLabels, Counter>,
    job_seconds: Histograms<KindLabels>,
    job_wait: Histograms<KindLabels>,
    queue: Gauges<QueueLabels>,
    queue_age: Gauges<KindLabels>,
    worker_slots: Gauges<StateLabels>,
    llm_calls: Family<CallLabels, Counter>,
    llm_seconds: Histograms<ProviderLabels>,
    llm_first_token: Histograms<ProviderLabels>,
    llm_tokens: Family<TokenLabels, Counter>,
    vendors: Arc<Vendors>,
    database_up: Gauge,
    listening: Gauge,
    pool: Gauges<StateLabels>,
    /// Stripe's events.
    pub stripe: StripeMetrics,
    /// Heartbeats that failed.
    pub heartbeat_failures: Counter,
    /// Claims that failed.
    pub claim_failures: Counter,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Arc::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(Buckets(&REQUEST_SECONDS)),
            jobs: Family::default(),
            job_seconds: Family::new_with_constructor(Buckets(&WORK_SECONDS)),
            job_wait: Family::new_with_constructor(Buckets(&WAIT_SECONDS)),
            queue: Family::default(),
            queue_age: Family::default(),
            worker_slots: Family::default(),
            llm_calls: Family::default(),
            llm_seconds: Family::new_with_constructor(Buckets(&WORK_SECONDS)),
            llm_first_token: Family::new_with_constructor(Buckets(&WORK_SECONDS)),
            llm_tokens: Family::default(),
            vendors: Arc::default(),
            database_up: Gauge::default(),
            listening: Gauge::default(),
            pool: Family::default(),
            stripe: StripeMetrics::default(),
            heartbeat_failures: Counter::default(),
            claim_failures: Counter::default(),
        };
        let mut registry = Registry::with_prefix("kijko");
        metrics.register_http(&mut registry);
        metrics.register_jobs(&mut registry);
        metrics.register_llm(&mut registry);
        metrics.register_database(&mut registry);
        metrics.stripe.register(&mut registry);
        registry.register(
            "build",
            "Version of this sidecar",
            Info::new([("version", crate::VERSION)]),
        );
        metrics.registry = Arc::new(registry);
        metrics
    }
}

impl Metrics {
    fn register_http(&self, registry: &mut Registry) {
        registry.register(
            "http_requests",
            "Requests by route and status",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "http_request_duration",
            "Time to answer",
            Unit::Seconds,
            self.request_seconds.clone(),
        );
    }

    fn register_jobs(&self, registry: &mut Registry) {
        registry.register("jobs", "Jobs that ended in this process", self.jobs.clone());
        registry.register_with_unit(
            "job_duration",
            "Time from claim to record",
            Unit::Seconds,
            self.job_seconds.clone(),
        );
        registry.register_with_unit(
            "job_pickup_delay",
            "Time from when a job was due until this process claimed it",
            Unit::Seconds,
            self.job_wait.clone(),
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

    fn register_llm(&self, registry: &mut Registry) {
        registry.register(
            "llm_calls",
            "Calls of model vendors; the outcome is ok, an error code, or dropped",
            self.llm_calls.clone(),
        );
        registry.register_with_unit(
            "llm_call_duration",
            "Time of a vendor's call",
            Unit::Seconds,
            self.llm_seconds.clone(),
        );
        registry.register_with_unit(
            "llm_first_token",
            "Time until a vendor's answer began",
            Unit::Seconds,
            self.llm_first_token.clone(),
        );
        registry.register(
            "llm_tokens",
            "Tokens as vendors count them; cached ones are among the input",
            self.llm_tokens.clone(),
        );
    }

    fn register_database(&self, registry: &mut Registry) {
        registry.register(
            "database_up",
            "1 when the database answered this scrape",
            self.database_up.clone(),
        );
        registry.register(
            "listener_connected",
            "1 while notifications arrive",
            self.listening.clone(),
        );
        registry.register(
            "db_pool_connections",
            "Connections of this process' pool",
            self.pool.clone(),
        );
    }

    /// One answered request. The route is the template, never the path: paths are without number.
    pub fn request(&self, method: &str, route: &str, status: u16, took: Duration) {
        let (method, route) = (method.to_owned(), route.to_owned());
        self.request_seconds
            .get_or_create(&RouteLabels {
                method: method.clone(),
                route: route.clone(),
            })
            .observe(took.as_secs_f64());
        self.requests
            .get_or_create(&RequestLabels {
                method,
                route,
                status,
            })
            .inc();
    }

    /// One job that was claimed here, so long after it was due.
    pub fn job_claimed(&self, kind: &str, waited: Duration) {
        self.job_wait
            .get_or_create(&KindLabels {
                kind: kind.to_owned(),
            })
            .observe(waited.as_secs_f64());
    }

    /// One job that ended here.
    pub fn job_ended(&self, kind: &str, outcome: Outcome, took: Duration) {
        self.jobs
            .get_or_create(&JobLabels {
                kind: kind.to_owned(),
                outcome: outcome.name(),
            })
            .inc();
        self.job_seconds
            .get_or_create(&KindLabels {
                kind: kind.to_owned(),
            })
            .observe(took.as_secs_f64());
    }

    /// One call of a model vendor, from now on.
    pub fn llm_call(&self, provider: &'static str, progress: Progress) -> LlmCall {
        LlmCall {
            metrics: self.clone(),
            provider,
            progress,
            start: Instant::now(),
            outcome: "dropped",
            vendors_fault: None,
        }
    }

    /// A vendor's last five minutes.
    pub fn vendor_health(&self, provider: &'static str) -> VendorHealth {
        self.vendors.health(provider)
    }

    fn llm_call_ended(&self, call: &LlmCall) {
        let (provider, reached) = (call.provider, call.progress.reached());
        self.llm_calls
            .get_or_create(&CallLabels {
                provider,
                outcome: call.outcome,
            })
            .inc();
        self.llm_seconds
            .get_or_create(&ProviderLabels { provider })
            .observe(call.start.elapsed().as_secs_f64());
        if let Some(wait) = reached.first_token {
            self.llm_first_token
                .get_or_create(&ProviderLabels { provider })
                .observe(wait.as_secs_f64());
        }
        for (direction, tokens) in [
            ("input", reached.usage.input),
            ("output", reached.usage.output),
            ("cache_read", reached.usage.cache_read),
            ("cache_write", reached.usage.cache_write),
        ] {
            self.llm_tokens
                .get_or_create(&TokenLabels {
                    provider,
                    direction,
                })
                .inc_by(tokens);
        }
        if let Some(failed) = call.vendors_fault {
            self.vendors.ended(provider, failed);
        }
    }

    /// Everything as text, after taking in what only a scrape can know.
    pub fn scrape(&self, pool: PoolUse, queue: &QueueGauges) -> Result<String, fmt::Error> {
        self.take_pool(pool);
        self.take_queue(queue);
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    fn take_pool(&self, pool: PoolUse) {
        let states = [
            ("in_use", pool.open.saturating_sub(pool.idle)),
            ("idle", pool.idle),
            ("max", pool.max),
            ("waiting", pool.waiting),
        ];
        for (state, count) in states {
            self.pool
                .get_or_create(&StateLabels { state })
                .set(count as f64);
        }
    }

    fn take_queue(&self, queue: &QueueGauges) {
        self.database_up.set(queue.stats.is_some().into());
        self.listening.set(queue.listening.into());
        for (state, count) in [("running", queue.running_here), ("max", queue.slots)] {
            self.worker_slots
                .get_or_create(&StateLabels { state })
                .set(count as f64);
        }
        // An unknown depth is no depth: better no sample than a stale one.
        self.queue.clear();
        self.queue_age.clear();
        for stats in queue.stats.iter().flatten() {
            for (state, count) in [
                ("queued", stats.queued),
                ("running", stats.running),
                ("dead", stats.dead),
            ] {
                self.queue
                    .get_or_create(&QueueLabels {
                        kind: stats.kind.clone(),
                        state,
                    })
                    .set(count as f64);
            }
            self.queue_age
                .get_or_create(&KindLabels {
                    kind: stats.kind.clone(),
                })
                .set(stats.oldest_queued_seconds);
        }
    }
}

/// A call that runs. It is counted when it goes, so that one which is dropped half-way is counted too.
pub struct LlmCall {
    metrics: Metrics,
    provider: &'static str,
    progress: Progress,
    start: Instant,
    outcome: &'static str,
    /// `None` while nobody knows.
    vendors_fault: Option<bool>,
}

impl LlmCall {
    /// It came to an end by itself.
    pub fn ended(&mut self, error: Option<&LlmError>) {
        self.outcome = error.map_or("ok", LlmError::code);
        self.vendors_fault = Some(error.is_some_and(|error| error.fault.is_vendors()));
    }
}

impl Drop for LlmCall {
    fn drop(&mut self) {
        self.metrics.clone().llm_call_ended(self);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn scrape(metrics: &Metrics, stats: Option<Vec<QueueStats>>) -> String {
        let pool = PoolUse {
            open: 3,
            idle: 1,
            max: 8,
            waiting: 0,
        };
        metrics
            .scrape(
                pool,
                &QueueGauges {
                    stats,
                    listening: true,
                    running_here: 2,
                    slots: 8,
                },
            )
            .unwrap()
    }

    #[test]
    fn every_group_shows_up_with_its_labels() {
        let metrics = Metrics::default();
        metrics.request("GET", "/health", 200, Duration::from_millis(3));
        metrics.job_claimed("execution", Duration::from_millis(4));
        metrics.job_ended("execution", Outcome::Retried, Duration::from_secs(1));
        let limited = LlmError::new(crate::llm::LlmFault::RateLimited, "");
        metrics
            .llm_call("openai", Progress::default())
            .ended(Some(&limited));
        drop(metrics.llm_call("gemini", Progress::default()));
        let stats = QueueStats {
            kind: "execution".into(),
            queued: 4,
            running: 1,
            dead: 2,
            oldest_queued_seconds: 7.5,
        };
        let text = scrape(&metrics, Some(vec![stats]));
        for line in [
            r#"kijko_http_requests_total{method="GET",route="/health",status="200"} 1"#,
            r#"kijko_jobs_total{kind="execution",outcome="retried"} 1"#,
            r#"kijko_job_pickup_delay_seconds_bucket{le="0.002",kind="execution"} 0"#,
            r#"kijko_job_pickup_delay_seconds_bucket{le="0.005",kind="execution"} 1"#,
            r#"kijko_queue_jobs{kind="execution",state="dead"} 2"#,
            r#"kijko_queue_oldest_seconds{kind="execution"} 7.5"#,
            r#"kijko_llm_calls_total{provider="openai",outcome="vendor_rate_limited"} 1"#,
            r#"kijko_llm_calls_total{provider="gemini",outcome="dropped"} 1"#,
            r#"kijko_db_pool_connections{state="in_use"} 2"#,
            "kijko_database_up 1",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn what_is_unknown_is_left_out() {
        let metrics = Metrics::default();
        let stats = QueueStats {
            kind: "execution".into(),
            queued: 4,
            running: 1,
            dead: 2,
            oldest_queued_seconds: 7.5,
        };
        scrape(&metrics, Some(vec![stats]));
        let text = scrape(&metrics, None);
        assert!(
            text.contains("kijko_database_up 0") && !text.contains("kijko_queue_jobs{"),
            "{text}"
        );
    }

    /// Names in the first column of the documentation's table.
    fn documented() -> BTreeSet<String> {
        let page = include_str!("../../../docs/operations/sidecar.md");
        let section = page.split("\n## Metrics\n").nth(1).unwrap();
        let table = section.split("\n## ").next().unwrap();
        table
            .lines()
            .filter_map(|line| line.strip_prefix("| `kijko_")?.split('|').next())
            .flat_map(|cell| cell.split('`'))
            .map(|name| name.trim_start_matches("kijko_").to_owned())
            .filter(|name| !name.is_empty() && !name.contains([',', ' ']))
            .collect()
    }

    fn printed(text: &str) -> BTreeSet<String> {
        text.lines()
            .filter_map(|line| line.strip_prefix("# TYPE kijko_")?.split_once(' '))
            .map(|(name, kind)| match kind {
                "counter" => format!("{name}_total"),
                "info" => format!("{name}_info"),
                _ => name.to_owned(),
            })
            .collect()
    }

    #[test]
    fn what_is_printed_is_what_the_documentation_explains() {
        let metrics = Metrics::default();
        metrics.request("GET", "/health", 200, Duration::ZERO);
        metrics.job_claimed("execution", Duration::ZERO);
        metrics.job_ended("execution", Outcome::Succeeded, Duration::ZERO);
        let progress = Progress::default();
        progress.update(|reached| {
            reached.first_token = Some(Duration::ZERO);
            reached.usage = crate::llm::Usage::new(1, 1);
        });
        drop(metrics.llm_call("openai", progress));
        metrics.stripe.event("invoice.paid", "applied");
        metrics.stripe.rejected("timestamp");
        metrics.stripe.take_backlog(Some(crate::stripe::Backlog {
            failed: 0,
            given_up: 0,
            oldest_failed_seconds: 0.0,
            unlinked: 0,
            unplanned: 0,
        }));
        let stats = QueueStats {
            kind: "execution".into(),
            queued: 0,
            running: 0,
            dead: 0,
            oldest_queued_seconds: 0.0,
        };
        let text = scrape(&metrics, Some(vec![stats]));
        assert_eq!(printed(&text), documented());
    }
}
