//! What operators see of Stripe's events.

use futures_util::future::BoxFuture;
use kijko_core::{
    db::Db,
    telemetry::{
        metrics::{Counter, EncodeLabelSet, Gauges, Registry, Series, Unit},
        readiness::{Check, Report, Status},
    },
};
use prometheus_client::metrics::{family::Family, gauge::Gauge};

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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

type NoLabels = [(&'static str, &'static str); 0];

/// Counters of deliveries and gauges of the backlog.
pub(super) struct StripeSeries {
    db: Db,
    events: Family<EventLabels, Counter>,
    rejected: Family<ReasonLabels, Counter>,
    backlog: Family<StateLabels, Gauge>,
    // A family without labels, since a lone gauge cannot be left out of a scrape.
    oldest_failed: Gauges<NoLabels>,
}

impl StripeSeries {
    pub(super) fn new(db: Db) -> Self {
        Self {
            db,
            events: Family::default(),
            rejected: Family::default(),
            backlog: Family::default(),
            oldest_failed: Family::default(),
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

    /// `None` when the database did not answer: no sample is better than a stale one.
    fn set_backlog(&self, backlog: Option<Backlog>) {
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

    fn refresh(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let backlog = store::backlog(&self.db).await;
            if let Err(error) = &backlog {
                tracing::warn!(%error, "metrics without Stripe's backlog");
            }
            self.set_backlog(backlog.ok());
        })
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
        Box::pin(async move {
            let report = |status| Report::new(status).with("configured", self.configured);
            if !database_up {
                return report(Status::Degraded);
            }
            match store::backlog(&self.db).await {
                Ok(backlog) => {
                    report(Status::degraded_unless(backlog.failed == 0)).with_all(&backlog)
                }
                Err(error) => {
                    tracing::warn!(%error, "Stripe's backlog is unknown");
                    report(Status::Degraded)
                }
            }
        })
    }
}
