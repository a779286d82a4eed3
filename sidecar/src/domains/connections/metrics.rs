//! What operators see of connections.

use kijko_core::telemetry::metrics::{Counter, EncodeLabelSet, Registry, Series};
use prometheus_client::metrics::family::Family;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// Counters of what providers were asked.
#[derive(Default)]
pub(super) struct ConnectionSeries {
    authorizations: Family<OutcomeLabels, Counter>,
    refreshes: Family<OutcomeLabels, Counter>,
    revocations: Family<OutcomeLabels, Counter>,
}

impl ConnectionSeries {
    /// One callback of a provider.
    pub(super) fn authorized(&self, is_good: bool) {
        let outcome = if is_good { "authorized" } else { "failed" };
        count(&self.authorizations, outcome);
    }

    /// One token that was refreshed or tried.
    pub(super) fn refreshed(&self, outcome: &'static str) {
        count(&self.refreshes, outcome);
    }

    /// One token that was to be revoked.
    pub(super) fn revoked(&self, is_done: bool) {
        let outcome = if is_done { "revoked" } else { "failed" };
        count(&self.revocations, outcome);
    }
}

fn count(family: &Family<OutcomeLabels, Counter>, outcome: &'static str) {
    family.get_or_create(&OutcomeLabels { outcome }).inc();
}

impl Series for ConnectionSeries {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "connection_authorizations",
            "Callbacks of providers of connections, by what became of them",
            self.authorizations.clone(),
        );
        registry.register(
            "connection_refreshes",
            "Tokens of connections that were refreshed or tried, by outcome",
            self.refreshes.clone(),
        );
        registry.register(
            "connection_revocations",
            "Tokens of connections that were to be revoked, by outcome",
            self.revocations.clone(),
        );
    }
}
