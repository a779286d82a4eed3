//! Reflexes: webhooks that run skills.
//!
//! This domain verifies who sent a request and reads what it is called. The database decides what becomes of it and queues a job
//! (`private.reflexes_ingest`). The job filters and maps the delivery in the sandbox, and `private.reflexes_finish` queues the
//! execution.

mod delivery;
mod handlers;
mod lines;
mod metrics;
mod routes;
mod signature;
mod store;

use std::sync::Arc;

use handlers::DeliveryHandler;
use kijko_core::{Context, Domain, Setup, SetupError, config::Reader};
use metrics::ReflexSeries;
use routes::{Webhook, routes};
use store::Store;

use crate::sandbox::Sandbox;

/// Reads no settings.
pub fn from_env(_: &mut Reader<'_>) -> Setup {
    Box::new(domain)
}

fn domain(context: &Context) -> Result<Domain, SetupError> {
    let sandbox = Sandbox::of_this_program().map_err(|error| format!("the sandbox: {error}"))?;
    let series = Arc::new(ReflexSeries::default());
    let store = Store::new(context.db.clone());
    let webhook = Webhook {
        store: store.clone(),
        max_body_bytes: context.max_body_bytes,
        series: series.clone(),
        lines: Arc::default(),
    };
    let mut domain = Domain {
        routes: routes(webhook),
        series: vec![series.clone()],
        ..Domain::default()
    };
    domain.jobs.register(Arc::new(DeliveryHandler {
        store,
        sandbox,
        series,
    }));
    Ok(domain)
}

#[cfg(test)]
mod tests;
