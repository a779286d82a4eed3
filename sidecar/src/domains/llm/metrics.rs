//! What operators see of the gateway. Models, providers and organizations are no labels: the log and `llm_calls` have them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use kijko_core::telemetry::metrics::{
    Counter, EncodeLabelSet, Histograms, Registry, Series, Unit, WORK_SECONDS, histograms,
};
use prometheus_client::metrics::{family::Family, gauge::Gauge};

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
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    running: AtomicI64,
    unsettled: AtomicI64,
}

/// Counts down when it is dropped.
pub(super) struct Counted {
    counts: Arc<Counts>,
    of: fn(&Counts) -> &AtomicI64,
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
            counts: Arc::default(),
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
    pub(super) fn running(&self) -> Counted {
        self.count(|counts| &counts.running)
    }

    /// A call is to be settled as long as the answer is kept.
    pub(super) fn unsettled(&self) -> Counted {
        self.count(|counts| &counts.unsettled)
    }

    fn count(&self, of: fn(&Counts) -> &AtomicI64) -> Counted {
        of(&self.counts).fetch_add(1, Ordering::Relaxed);
        Counted {
            counts: self.counts.clone(),
            of,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.of)(&self.counts).fetch_sub(1, Ordering::Relaxed);
    }
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
    }

    fn refresh(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let count = |of: &AtomicI64| of.load(Ordering::Relaxed);
            self.running.set(count(&self.counts.running));
            self.unsettled.set(count(&self.counts.unsettled));
        })
    }
}
