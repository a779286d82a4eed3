//! What became of the spans.

use prometheus_client::metrics::{family::Family, gauge::Gauge};

use crate::telemetry::metrics::{Counter, EncodeLabelSet, Registry, Series};

/// What became of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The collector has it.
    Exported,
    /// It refused it, or the batch that it was in.
    Rejected,
    /// It could not be reached, or did not answer, for too long.
    Failed,
    /// The queue was full.
    Dropped,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: &'static str,
}

/// The series.
#[derive(Default)]
pub(super) struct SpanSeries {
    spans: Family<Labels, Counter>,
    waiting: Gauge,
}

impl SpanSeries {
    pub(super) fn count(&self, outcome: Outcome, spans: u64) {
        self.counter(outcome).inc_by(spans);
    }

    #[cfg(test)]
    pub(super) fn counted(&self, outcome: Outcome) -> u64 {
        self.counter(outcome).get()
    }

    fn counter(&self, outcome: Outcome) -> Counter {
        self.spans.get_or_create_owned(&Labels {
            outcome: outcome.name(),
        })
    }

    pub(super) fn waiting(&self, spans: usize) {
        self.waiting.set(i64::try_from(spans).unwrap_or(i64::MAX));
    }
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Exported => "exported",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

impl Series for SpanSeries {
    fn register(&self, registry: &mut Registry) {
        // An alert needs the sample before the first loss.
        for outcome in [
            Outcome::Exported,
            Outcome::Rejected,
            Outcome::Failed,
            Outcome::Dropped,
        ] {
            self.count(outcome, 0);
        }
        registry.register(
            "spans",
            "Spans of OpenTelemetry, by what became of them",
            self.spans.clone(),
        );
        registry.register(
            "spans_waiting",
            "Spans that wait to be exported",
            self.waiting.clone(),
        );
    }
}
