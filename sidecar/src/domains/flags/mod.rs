//! Flags: evaluates the flags of organizations, for callers whom the API identifies, mostly by publishable keys.
//!
//! - [`unleash`]: Unleash's Client API, for programs that evaluate themselves, and its Frontend API.
//! - [`ofrep`]: OpenFeature's remote evaluation protocol.
//! - [`source`]: definitions, compiled once for each revision.
//! - [`counts`]: evaluations, added up and reported every few seconds. Unleash's clients report their own.
//!
//! Each route is at `/api/v1/flags/…` for the environment `production`, and at `/api/v1/flags/environments/{environment}/…`.

mod counts;
mod ofrep;
mod service;
mod source;
mod unleash;

use std::sync::Arc;

use kijko_core::{Context, Domain, Setup, SetupError, config::Reader, outbound::Url};
use service::Flags;
use source::Sources;

use crate::api::Api;

/// Reads `KIJKO_REST_URL`.
pub fn from_env(env: &mut Reader<'_>) -> Setup {
    let rest_url = Api::url(env);
    Box::new(move |context| domain(rest_url, context))
}

fn domain(rest_url: Option<Url>, context: &Context) -> Result<Domain, SetupError> {
    let flags = Flags {
        sources: Sources::new(Api::at(rest_url)?),
        counts: Arc::default(),
    };
    let (counts, db) = (flags.counts.clone(), context.db.clone());
    Ok(Domain {
        routes: unleash::routes(flags.clone()).merge(ofrep::routes(flags)),
        background: vec![Box::new(move |stop| {
            Box::pin(async move { counts.report(&db, stop).await })
        })],
        ..Domain::default()
    })
}
