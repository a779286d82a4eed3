//! Issuers: login servers of organizations. The database fetches and keeps their keys; this domain shows operators how they do.

mod metrics;
mod store;

use std::sync::Arc;

use kijko_core::{Context, Domain, Setup, config::Reader};
use metrics::{IssuersCheck, IssuersSeries};

/// There is nothing to read.
pub fn from_env(_: &mut Reader<'_>) -> Setup {
    Box::new(|context: &Context| {
        Ok(Domain {
            series: vec![Arc::new(IssuersSeries::new(context.db.clone()))],
            checks: vec![Arc::new(IssuersCheck {
                db: context.db.clone(),
            })],
            ..Domain::default()
        })
    })
}
