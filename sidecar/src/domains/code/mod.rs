//! Code: search in indexed repositories over HTTP. Everything is asked of the API as the caller, which decides what they see.
//!
//! - [`routes`]: symbols by name, at `/api/v1/symbols/search`.
//! - [`kotadb`]: the paths of KotaDB, in its shapes; [`documents`]: those of its documents.
//! - [`mcp`]: the path `/mcp`, where agents find the same functions as tools ([`tools`]).
//! - [`search`]: search in files. The database gives those that may have a line, by an index, and lines are matched here
//!   ([`pattern`], [`literals`]).

mod documents;
mod kotadb;
mod kotadb_shapes;
mod literals;
mod mcp;
mod pattern;
mod refusal;
mod repositories;
mod routes;
mod search;
mod service;
mod tools;

use kijko_core::{
    Context, Domain, Setup, SetupError, config::Reader, db::DatabaseConfig, outbound::Url,
};
use search::Search;
use service::Code;

use crate::api::{Api, Direct};

/// A page of files for a search has 2 MiB of text, which JSON may write six times as long.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Reads `KIJKO_REST_URL` and `KIJKO_GATEWAY_DATABASE_URL`.
pub fn from_env(env: &mut Reader<'_>) -> Setup {
    let rest_url = Api::url(env);
    let direct = Direct::config(env);
    Box::new(move |context| domain(rest_url, direct.as_ref(), context))
}

fn domain(
    rest_url: Option<Url>,
    direct: Option<&DatabaseConfig>,
    context: &Context,
) -> Result<Domain, SetupError> {
    let direct = Direct::at(direct)?;
    let api = Api::at(rest_url)?;
    let code = Code {
        api: api.map(|api| api.with_max_bytes(MAX_ANSWER_BYTES).with_direct(direct)),
        search: Search::default(),
        max_body_bytes: context.max_body_bytes,
    };
    Ok(Domain {
        routes: routes::routes(code.clone())
            .merge(kotadb::routes(code.clone()))
            .merge(documents::routes(code.clone()))
            .merge(mcp::routes(code)),
        ..Domain::default()
    })
}
