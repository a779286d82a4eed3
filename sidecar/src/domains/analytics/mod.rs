//! Analytics: Segment's HTTP API, at `/api/v1/ingest`. What it takes goes to the function `track` of the API, as the caller.
//!
//! - [`routes`]: the paths, the key of a request, and its answer.
//! - [`messages`]: what a body holds, in the form that `track` takes.

mod messages;
mod routes;

use kijko_core::{Context, Domain, Setup, SetupError, config::Reader, outbound::Url};

use crate::api::Api;

/// Reads `KIJKO_REST_URL`.
pub fn from_env(env: &mut Reader<'_>) -> Setup {
    // Other domains read the same variable; a problem is reported once.
    let rest_url = Api::url(env);
    Box::new(move |context| domain(rest_url, context))
}

fn domain(rest_url: Option<Url>, _context: &Context) -> Result<Domain, SetupError> {
    Ok(Domain {
        routes: routes::routes(Api::at(rest_url)?),
        ..Domain::default()
    })
}
