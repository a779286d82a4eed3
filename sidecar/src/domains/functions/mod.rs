//! Functions: servers that the operator put behind `/functions/v1/<name>`.
//!
//! 1. [`routes`]: the API says whether the caller may, and gives a ticket; the database opens it.
//! 2. [`slots`]: few calls of a caller and of a function run at once.
//! 3. [`outgoing`]: what of the request is passed on: never the caller's token, key or cookies.
//! 4. `crate::upstream`: the client, which reaches public addresses and those that the operator allows.
//! 5. [`answer`]: what of the answer is passed back, as it comes, within its time and size.

mod answer;
mod metrics;
mod outgoing;
mod routes;
mod slots;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use kijko_core::{Context, Domain, Setup, SetupError, config::Reader, outbound::Url};
use metrics::FunctionSeries;
use routes::{Functions, routes};
use slots::Slots;
use store::Store;

use crate::{api::Api, upstream::Upstream};

/// Reads `KIJKO_REST_URL`.
pub fn from_env(env: &mut Reader<'_>) -> Setup {
    let rest_url = Api::url(env);
    Box::new(move |context| domain(rest_url, context))
}

fn domain(rest_url: Option<Url>, context: &Context) -> Result<Domain, SetupError> {
    let api = Api::at(rest_url)?;
    let series = Arc::new(FunctionSeries::default());
    let functions = Functions {
        api,
        store: Store::new(context.db.clone()),
        slots: Slots::default(),
        upstream: Upstream::default(),
        series: series.clone(),
        max_body_bytes: context.max_body_bytes,
        head_timeout: context.request_timeout,
    };
    Ok(Domain {
        routes: routes(functions),
        series: vec![series],
        ..Domain::default()
    })
}
