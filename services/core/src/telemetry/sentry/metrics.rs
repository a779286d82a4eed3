//! What became of the reports. One for the process, as the log is.

use std::sync::{Arc, LazyLock};

use prometheus_client::metrics::family::Family;

use crate::telemetry::metrics::{Counter, EncodeLabelSet, Registry, Series};

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Sentry has it.
    Sent,
    /// Another one of its group was sent less than a minute before.
    Suppressed,
    /// The queue was full, or Sentry has asked to wait.
    Dropped,
    /// Sentry could not be reached.
    Failed,
    /// Sentry refused it.
    Rejected,
}

const ALL: [Outcome; 5] = [
    Outcome::Sent,
    Outcome::Suppressed,
    Outcome::Dropped,
    Outcome::Failed,
    Outcome::Rejected,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: &'static str,
}

/// The series.
#[derive(Default)]
pub(crate) struct ReportSeries {
    reports: Family<Labels, Counter>,
}

/// That of this process.
pub(crate) fn series() -> Arc<ReportSeries> {
    static SERIES: LazyLock<Arc<ReportSeries>> = LazyLock::new(Arc::default);
    SERIES.clone()
}

impl ReportSeries {
    pub(super) fn count(&self, outcome: Outcome) {
        self.counter(outcome).inc();
    }

    fn counter(&self, outcome: Outcome) -> Counter {
        self.reports.get_or_create_owned(&Labels {
            outcome: outcome.name(),
        })
    }

    /// Of all outcomes, in their order.
    #[cfg(test)]
    pub(super) fn counts(&self) -> [u64; 5] {
        ALL.map(|outcome| self.counter(outcome).get())
    }
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Suppressed => "suppressed",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
        }
    }
}

impl Series for ReportSeries {
    fn register(&self, registry: &mut Registry) {
        // An alert needs the sample before the first loss.
        for outcome in ALL {
            self.counter(outcome);
        }
        registry.register(
            "error_reports",
            "Reports of errors to Sentry, by what became of them",
            self.reports.clone(),
        );
    }
}
