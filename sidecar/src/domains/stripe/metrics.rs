//! What operators see of Stripe's events.

use std::future::Future;

use futures_util::future::BoxFuture;
use kijko_core::{
    db::{Db, DbError},
    telemetry::{
        backlog::{self, BacklogGauges},
        metrics::{Counter, EncodeLabelSet, Registry, Series},
        readiness::{Check, Report, Status},
    },
};
use prometheus_client::metrics::family::Family;

use super::store::{self, Backlog};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    r#type: String,
    outcome: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// Counters of deliveries and gauges of the backlog.
pub(super) struct StripeSeries {
    db: Db,
    events: Family<EventLabels, Counter>,
    rejected: Family<ReasonLabels, Counter>,
    backlog: BacklogGauges<Backlog>,
}

impl StripeSeries {
    pub(super) fn new(db: Db) -> Self {
        Self {
            db,
            events: Family::default(),
            rejected: Family::default(),
            backlog: BacklogGauges::default(),
        }
    }

    /// One verified event. The sender chooses the type, but the sender is Stripe.
    pub(super) fn event(&self, kind: &str, outcome: &str) {
        let labels = EventLabels {
            r#type: kind.to_owned(),
            outcome: outcome.to_owned(),
        };
        self.events.get_or_create(&labels).inc();
    }

    /// One delivery that was refused.
    pub(super) fn rejected(&self, reason: &'static str) {
        self.rejected.get_or_create(&ReasonLabels { reason }).inc();
    }
}

impl Series for StripeSeries {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "stripe_events",
            "Verified Stripe events by type and outcome",
            self.events.clone(),
        );
        registry.register(
            "stripe_rejected",
            "Deliveries that were refused, by reason",
            self.rejected.clone(),
        );
        self.backlog.register(registry);
    }

    fn refresh(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.backlog.refresh(&self.db))
    }
}

impl backlog::Backlog for Backlog {
    const DOMAIN: &'static str = "stripe";
    const COUNTS: (&'static str, &'static str) = (
        "stripe_backlog",
        "Events and subscriptions that wait for an operator, in the whole database",
    );
    const OLDEST: (&'static str, &'static str) = (
        "stripe_oldest_failed",
        "How long the oldest failed event has waited",
    );
    type Source = Db;
    type Error = DbError;

    fn read(db: &Db) -> impl Future<Output = Result<Self, DbError>> + Send {
        store::backlog(db)
    }

    fn counts(&self) -> Vec<(&'static str, i64)> {
        vec![
            ("failed", self.failed),
            ("given_up", self.given_up),
            ("unlinked", self.unlinked),
            ("unplanned", self.unplanned),
        ]
    }

    fn oldest_seconds(&self) -> f64 {
        self.oldest_failed_seconds
    }
}

/// `stripe`: degraded while an event is failed, or the backlog cannot be read. Unlinked and unplanned subscriptions are shown
/// but degrade nothing: an account may sell other things too.
pub(super) struct StripeCheck {
    pub db: Db,
    pub configured: bool,
}

impl Check for StripeCheck {
    fn name(&self) -> &'static str {
        "stripe"
    }

    fn look(&self, database_up: bool) -> BoxFuture<'_, Report> {
        let judge = |backlog: &Backlog| Status::degraded_unless(backlog.failed == 0);
        Box::pin(backlog::look(&self.db, database_up, self.configured, judge))
    }
}
