//! The registry of `/metrics`. Each part brings its own series; this module knows none of them but the build's version.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, atomic::AtomicU64},
};

use futures_util::future::{BoxFuture, join_all};
pub use prometheus_client::{encoding::EncodeLabelSet, metrics::counter::Counter, registry::Unit};
use prometheus_client::{
    encoding::text::{encode_eof, encode_registry},
    metrics::{
        MetricType,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
        info::Info,
    },
    registry::Metric,
};

use super::process::Process;
use crate::service::Service;

/// Gauges with labels, of fractions.
pub type Gauges<L> = Family<L, Gauge<f64, AtomicU64>>;

/// Histograms with labels.
pub type Histograms<L> = Family<L, Histogram, Buckets>;

/// Time that work takes, in seconds: jobs and calls of other services.
pub const WORK_SECONDS: [f64; 11] = [
    0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// The series of one part.
pub trait Series: Send + Sync {
    /// Adds them to the registry, once, with their help.
    fn register(&self, registry: &mut Registry);

    /// Sets what only a scrape can know. It must end by itself when the database is unreachable.
    fn refresh(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// Collects series under the prefix `kijko_`.
pub struct Registry {
    inner: prometheus_client::registry::Registry,
    names: BTreeSet<String>,
}

impl Registry {
    /// Adds a series.
    pub fn register(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.note(name.to_owned(), metric.metric_type());
        self.inner.register(name, help, metric);
    }

    /// Adds a series whose name ends in its unit.
    pub fn register_with_unit(&mut self, name: &str, help: &str, unit: Unit, metric: impl Metric) {
        self.note(format!("{name}_{}", unit.as_str()), metric.metric_type());
        self.inner.register_with_unit(name, help, unit, metric);
    }

    fn note(&mut self, name: String, kind: MetricType) {
        let name = match kind {
            MetricType::Counter => format!("{name}_total"),
            MetricType::Info => format!("{name}_info"),
            _ => name,
        };
        assert!(
            self.names.insert(name.clone()),
            "{name} is registered twice"
        );
    }
}

/// Makes histograms with fixed buckets.
#[derive(Debug, Clone, Copy)]
pub struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// Histograms with these upper bounds.
pub fn histograms<L: Clone + std::hash::Hash + Eq>(bounds: &'static [f64]) -> Histograms<L> {
    Family::new_with_constructor(Buckets(bounds))
}

/// All series of a service.
pub struct Metrics {
    registry: Registry,
    /// Without our prefix.
    process: prometheus_client::registry::Registry,
    series: Vec<Arc<dyn Series>>,
}

impl Metrics {
    /// Registers all of them.
    pub fn new(service: Service, series: Vec<Arc<dyn Series>>) -> Self {
        let mut registry = Registry {
            inner: prometheus_client::registry::Registry::with_prefix("kijko"),
            names: BTreeSet::new(),
        };
        for one in &series {
            one.register(&mut registry);
        }
        registry.register(
            "build",
            "Version of this build",
            Info::new([("version", service.version)]),
        );
        let mut process = prometheus_client::registry::Registry::default();
        process.register_collector(Box::new(Process));
        Self {
            registry,
            process,
            series,
        }
    }

    /// The names of all series without the prefix, whether or not they have samples.
    pub fn names(&self) -> &BTreeSet<String> {
        &self.registry.names
    }

    /// Everything as OpenMetrics text. All parts refresh at once, so that an unreachable database is waited for once.
    pub async fn scrape(&self) -> Result<String, fmt::Error> {
        join_all(self.series.iter().map(|series| series.refresh())).await;
        self.encode()
    }

    /// The same without refreshing.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.registry.inner)?;
        encode_registry(&mut text, &self.process)?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}
