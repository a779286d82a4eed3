//! What operators see of Stripe's events.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::stripe::Backlog;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    r#type: String,
    outcome: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

type NoLabels = [(&'static str, &'static str); 0];

/// Counters of deliveries and gauges of what waits.
#[derive(Debug, Clone, Default)]
pub struct StripeMetrics {
    events: Family<EventLabels, Counter>,
    rejected: Family<ReasonLabels, Counter>,
    backlog: Family<StateLabels, Gauge>,
    // A family without labels, since a lone gauge cannot be left out of a scrape.
    oldest_failed: Family<NoLabels, Gauge<f64, AtomicU64>>,
}

impl StripeMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "stripe_events",
            "Verified Stripe events by type and outcome",
            self.events.clone(),
        );
        registry.register(
            "stripe_rejected",
            "Deliveries that were not believed or not understood",
            self.rejected.clone(),
        );
        registry.register(
            "stripe_backlog",
            "Events and subscriptions that wait for an operator, in the whole database",
            self.backlog.clone(),
        );
        registry.register_with_unit(
            "stripe_oldest_failed",
            "How long the oldest failed event has waited",
            Unit::Seconds,
            self.oldest_failed.clone(),
        );
    }

    /// One verified event. The type is the sender's word, but the sender is Stripe.
    pub fn event(&self, kind: &str, outcome: &str) {
        let labels = EventLabels {
            r#type: kind.to_owned(),
            outcome: outcome.to_owned(),
        };
        self.events.get_or_create(&labels).inc();
    }

    /// One delivery that was refused.
    pub fn rejected(&self, reason: &'static str) {
        self.rejected.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// What waits; unknown when the database did not answer, and then better no sample than a stale one.
    pub fn take_backlog(&self, backlog: Option<Backlog>) {
        self.backlog.clear();
        self.oldest_failed.clear();
        let Some(backlog) = backlog else { return };
        for (state, count) in [
            ("failed", backlog.failed),
            ("given_up", backlog.given_up),
            ("unlinked", backlog.unlinked),
            ("unplanned", backlog.unplanned),
        ] {
            self.backlog
                .get_or_create(&StateLabels { state })
                .set(count);
        }
        self.oldest_failed
            .get_or_create(&[])
            .set(backlog.oldest_failed_seconds);
    }
}
