//! Stripe: events come in by webhook, are verified here, and are stored and applied by the database.
//!
//! This domain knows signatures and nothing about billing. `private.stripe_ingest_event` decides which event is the latest, which
//! organization it belongs to and which plan follows, in the transaction that stores the event. Deliveries that arrive at once
//! share one.

mod batches;
mod config;
mod metrics;
mod routes;
mod store;

use std::sync::Arc;

use batches::Batches;
use config::StripeConfig;
use kijko_core::{Context, Domain, Setup, config::Reader};
use metrics::{StripeCheck, StripeSeries};
use routes::{Webhook, routes};

/// Reads `STRIPE_WEBHOOK_SECRET`.
pub fn from_env(env: &mut Reader<'_>) -> Setup {
    let config = StripeConfig::read(env);
    Box::new(move |context| Ok(domain(config, context)))
}

fn domain(config: StripeConfig, context: &Context) -> Domain {
    let series = Arc::new(StripeSeries::new(context.db.clone()));
    let check = StripeCheck {
        db: context.db.clone(),
        configured: !config.webhook_secrets.is_empty(),
    };
    let webhook = Webhook {
        batches: Arc::new(Batches::new(context.db.clone())),
        secrets: config.webhook_secrets.into(),
        max_body_bytes: context.max_body_bytes,
        series: series.clone(),
    };
    Domain {
        routes: routes(webhook),
        series: vec![series],
        checks: vec![Arc::new(check)],
        ..Domain::default()
    }
}

#[cfg(test)]
mod tests;
