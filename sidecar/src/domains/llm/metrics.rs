//! What operators see of the gateway. Models, providers and organizations are no labels: the log and `llm_calls` have them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use kijko_core::telemetry::metrics::{
    Counter, EncodeLabelSet, Histograms, Registry, Series, Unit, WORK_SECONDS, histograms,
};
use prometheus_client::metrics::{family::Family, gauge::Gauge};
use tokio::time::Instant;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    api: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

/// Calls of the gateway.
pub(super) struct GatewaySeries {
    calls: Family<CallLabels, Counter>,
    attempts: Family<AttemptLabels, Counter>,
    durations: Histograms<KindLabels>,
    first_tokens: Histograms<KindLabels>,
    running: Gauge,
    unsettled: Gauge,
    oldest_unsettled: Gauge<f64, AtomicU64>,
    calls_running: Arc<AtomicI64>,
    waiting: Arc<Mutex<Waiting>>,
}

/// Settlements that go on, in the order in which they began.
#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    since: BTreeMap<u64, Instant>,
}

/// A call that runs, until it is dropped.
pub(super) struct Running(Arc<AtomicI64>);

/// A call that waits for its settlement, until it is dropped.
pub(super) struct Unsettled {
    waiting: Arc<Mutex<Waiting>>,
    number: u64,
}

impl Default for GatewaySeries {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            attempts: Family::default(),
            durations: histograms(&WORK_SECONDS),
            first_tokens: histograms(&WORK_SECONDS),
            running: Gauge::default(),
            unsettled: Gauge::default(),
            oldest_unsettled: Gauge::default(),
            calls_running: Arc::default(),
            waiting: Arc::default(),
        }
    }
}

impl GatewaySeries {
    /// A call that was let through has ended.
    pub(super) fn ended(
        &self,
        kind: &'static str,
        outcome: &'static str,
        total: Duration,
        first_token: Option<Duration>,
    ) {
        self.calls
            .get_or_create(&CallLabels { kind, outcome })
            .inc();
        let labels = KindLabels { kind };
        let durations = self.durations.get_or_create(&labels);
        durations.observe(total.as_secs_f64());
        drop(durations);
        if let Some(first_token) = first_token {
            let first_tokens = self.first_tokens.get_or_create(&labels);
            first_tokens.observe(first_token.as_secs_f64());
        }
    }

    /// One attempt with a vendor has ended.
    pub(super) fn attempted(&self, api: &'static str, outcome: &'static str) {
        let labels = AttemptLabels { api, outcome };
        self.attempts.get_or_create(&labels).inc();
    }

    /// A call runs as long as the answer is kept.
    pub(super) fn running(&self) -> Running {
        self.calls_running.fetch_add(1, Ordering::Relaxed);
        Running(self.calls_running.clone())
    }

    /// A call is to be settled as long as the answer is kept.
    pub(super) fn unsettled(&self) -> Unsettled {
        let mut waiting = lock(&self.waiting);
        waiting.last += 1;
        let number = waiting.last;
        waiting.since.insert(number, Instant::now());
        Unsettled {
            waiting: self.waiting.clone(),
            number,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        lock(&self.waiting).since.remove(&self.number);
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Series for GatewaySeries {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "llm_gateway_calls",
            "Calls of the LLM gateway that were let through, by what became of them",
            self.calls.clone(),
        );
        registry.register(
            "llm_gateway_attempts",
            "Attempts with a vendor, by its API and what became of them",
            self.attempts.clone(),
        );
        registry.register_with_unit(
            "llm_gateway_call_duration",
            "Time until the end of the answer",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register_with_unit(
            "llm_gateway_first_token",
            "Time until the first piece of an answer, failed attempts included",
            Unit::Seconds,
            self.first_tokens.clone(),
        );
        registry.register(
            "llm_gateway_calls_running",
            "Calls of the LLM gateway that run",
            self.running.clone(),
        );
        registry.register(
            "llm_gateway_calls_unsettled",
            "Calls that have ended and are not settled in the database yet",
            self.unsettled.clone(),
        );
        registry.register_with_unit(
            "llm_gateway_oldest_unsettled",
            "How long the call has waited that ended first and is not settled in the database yet",
            Unit::Seconds,
            self.oldest_unsettled.clone(),
        );
    }

    fn refresh(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.running.set(self.calls_running.load(Ordering::Relaxed));
            let waiting = lock(&self.waiting);
            let count = i64::try_from(waiting.since.len());
            self.unsettled.set(count.unwrap_or(i64::MAX));
            let oldest = waiting.since.first_key_value();
            let oldest = oldest.map_or(Duration::ZERO, |(_, since)| since.elapsed());
            self.oldest_unsettled.set(oldest.as_secs_f64());
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_settlement_that_waits_is_seen() {
        const EARLIER: Duration = Duration::from_secs(50);
        let series = GatewaySeries::default();
        let seen = async || {
            series.refresh().await;
            (series.unsettled.get(), series.oldest_unsettled.get())
        };
        let first = series.unsettled();
        if let Some(since) = lock(&series.waiting).since.get_mut(&first.number) {
            *since = since.checked_sub(EARLIER).unwrap();
        }
        let second = series.unsettled();
        let (count, oldest) = seen().await;
        assert!(count == 2 && oldest >= 50.0, "{count} {oldest}");
        drop(first);
        let (count, oldest) = seen().await;
        assert!(count == 1 && oldest < 50.0, "{count} {oldest}");
        drop(second);
        assert_eq!(seen().await, (0, 0.0));
    }
}
