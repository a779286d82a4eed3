//! What operators see of deliveries.

use kijko_core::telemetry::metrics::{Counter, EncodeLabelSet, Registry, Series};
use prometheus_client::metrics::family::Family;

use crate::sandbox::Mapped;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// Counters of requests and of deliveries.
#[derive(Default)]
pub(super) struct ReflexSeries {
    deliveries: Family<OutcomeLabels, Counter>,
    rejected: Family<ReasonLabels, Counter>,
    mapped: Family<OutcomeLabels, Counter>,
}

impl ReflexSeries {
    /// One verified request.
    pub(super) fn delivery(&self, status: &str) {
        let known = ["received", "refused", "duplicate", "rate_limited"];
        let outcome = known.into_iter().find(|known| *known == status);
        let labels = OutcomeLabels {
            outcome: outcome.unwrap_or("other"),
        };
        self.deliveries.get_or_create(&labels).inc();
    }

    /// One request that was refused.
    pub(super) fn rejected(&self, reason: &'static str) {
        self.rejected.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// One delivery that was filtered and mapped.
    pub(super) fn mapped(&self, mapped: &Mapped) {
        let outcome = match mapped {
            Mapped::Filtered => "filtered",
            Mapped::Input(_) => "input",
            Mapped::Failed { .. } => "failed",
        };
        self.mapped.get_or_create(&OutcomeLabels { outcome }).inc();
    }
}

impl Series for ReflexSeries {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "reflex_deliveries",
            "Verified requests to reflexes, by what became of them",
            self.deliveries.clone(),
        );
        registry.register(
            "reflex_rejected",
            "Requests to reflexes that were refused, by reason",
            self.rejected.clone(),
        );
        registry.register(
            "reflex_mapped",
            "Deliveries that were filtered and mapped, by outcome",
            self.mapped.clone(),
        );
    }
}
