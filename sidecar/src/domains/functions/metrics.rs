//! What operators see of functions. A name is no label: the log has it.

use std::{sync::Arc, time::Instant};

use kijko_core::telemetry::metrics::{
    Counter, EncodeLabelSet, Histograms, Registry, Series, Unit, WORK_SECONDS, histograms,
};
use prometheus_client::metrics::family::Family;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

type NoLabels = [(&'static str, &'static str); 0];

/// Calls of functions.
pub(super) struct FunctionSeries {
    calls: Family<OutcomeLabels, Counter>,
    durations: Histograms<NoLabels>,
}

/// A call that is counted when it ends.
pub(super) struct Counted {
    outcome: &'static str,
    start: Instant,
    series: Arc<FunctionSeries>,
}

impl Default for FunctionSeries {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            durations: histograms(&WORK_SECONDS),
        }
    }
}

impl FunctionSeries {
    /// Unless something else becomes of it, the client hung up.
    pub(super) fn begin(self: &Arc<Self>) -> Counted {
        Counted {
            outcome: "dropped",
            start: Instant::now(),
            series: self.clone(),
        }
    }
}

impl Counted {
    pub(super) fn end(&mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let labels = OutcomeLabels {
            outcome: self.outcome,
        };
        self.series.calls.get_or_create(&labels).inc();
        let seconds = self.start.elapsed().as_secs_f64();
        self.series.durations.get_or_create(&[]).observe(seconds);
    }
}

impl Series for FunctionSeries {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "function_calls",
            "Calls of functions that were let through, by what became of them",
            self.calls.clone(),
        );
        registry.register_with_unit(
            "function_call_duration",
            "Time until the end of the answer",
            Unit::Seconds,
            self.durations.clone(),
        );
    }
}
