//! Webhooks that this product sends. The extension's outbox sends them; this domain shows operators how it goes.

mod metrics;
mod store;

use std::sync::Arc;

use kijko_core::{Context, Domain, Setup, config::Reader};
use metrics::OutboxSeries;

/// There is nothing to read.
pub fn from_env(_: &mut Reader<'_>) -> Setup {
    Box::new(|context: &Context| {
        Ok(Domain {
            series: vec![Arc::new(OutboxSeries::new(context.db.clone()))],
            ..Domain::default()
        })
    })
}
