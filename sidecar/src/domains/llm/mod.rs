//! The LLM gateway: OpenAI's API at `/llm/v1`, for models of every vendor, with budgets that hold.
//!
//! 1. [`routes`], [`handlers`]: the API says who calls ([`identity`]), and a request is read as it comes ([`intake`], [`room`];
//!    [`prompts`]: a stored prompt becomes such a request; [`request`], [`chat`], [`embeddings`], [`images`], [`fields`], [`estimate`]). The API says whether the caller may: it holds what
//!    the call can cost against every budget, and opens the call ([`opening`], [`credentials`]).
//! 2. [`call`]: the call in its own task: targets in order, retries, the time budget. [`attempt`]: one of them. [`pauses`]: which
//!    providers come last.
//! 3. `to_*`: the body of each vendor, with `content` and `tools`; [`upstreams`]: its address, client and key.
//! 4. [`reader`] with `read_*`: each vendor's stream as pieces of OpenAI's ([`delta`]); [`assemble`]: a whole answer of them.
//!    What names a tenant's users is replaced on the platform's keys: [`pseudonym`].
//! 5. [`output`], [`answer`]: what the client gets. [`error`]: in OpenAI's shape.
//! 6. [`job_calls`]: calls that jobs of other domains make.
//! 7. [`record`], [`settlement`]: what was used, once for each call, whatever becomes of it ([`batches`], [`outstanding`]).
//!    [`span`]: its span.

mod answer;
mod assemble;
mod attempt;
mod batches;
mod call;
mod chat;
mod config;
mod content;
mod credentials;
mod delta;
mod echo;
mod embeddings;
mod error;
mod estimate;
mod failure;
mod fields;
mod gateway;
mod handlers;
mod hold;
mod identity;
mod images;
mod intake;
mod job_calls;
mod metrics;
mod opening;
mod output;
mod outstanding;
mod pauses;
mod prompts;
mod pseudonym;
mod read_anthropic;
mod read_gemini;
mod read_openai;
mod reader;
mod record;
mod request;
mod room;
mod routes;
mod settlement;
mod span;
mod store;
#[cfg(test)]
mod tests;
mod to_anthropic;
mod to_gemini;
mod to_openai;
mod tools;
mod upstreams;

use std::sync::Arc;

use config::GatewayConfig;
use gateway::Gateway;
pub(crate) use job_calls::{JobCalls, JobCallsConfig};
use kijko_core::{
    Context, Domain, Setup, SetupError, config::Reader, db::DatabaseConfig, outbound::Url,
};
use store::Store;

use crate::api::{Api, Direct};

/// Reads `KIJKO_REST_URL`, `KIJKO_GATEWAY_DATABASE_URL`, the limits of the gateway and the settings of the model vendors.
pub fn from_env(env: &mut Reader<'_>) -> Setup {
    let rest_url = Api::url(env);
    let direct = Direct::config(env);
    let config = GatewayConfig::read(env);
    Box::new(move |context| domain(&config, rest_url, direct.as_ref(), context))
}

fn domain(
    config: &GatewayConfig,
    rest_url: Option<Url>,
    direct: Option<&DatabaseConfig>,
    context: &Context,
) -> Result<Domain, SetupError> {
    let direct = Direct::at(direct)?;
    let api = Api::at(rest_url)?.map(|api| api.with_direct(direct));
    let store = Arc::new(Store::new(context.db.clone()));
    let gateway = Arc::new(Gateway::new(config, api, store, context.tracer.clone())?);
    Ok(Domain {
        routes: routes::routes(gateway.clone()),
        limits: routes::limits(),
        series: vec![gateway.series.clone()],
        background: vec![gateway.stopping(context.shutdown_grace)],
        ..Domain::default()
    })
}
