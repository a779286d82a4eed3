//! Topics: what discoveries collect. The database says what is watched and when, and stores what was found.
//!
//! 1. [`handlers`]: a job of the kind `topic_discovery` collects for one discovery.
//! 2. [`fetch`]: feeds and pages, by the guarded client, as robots.txt allows and one request at a time of a host.
//! 3. [`searxng`], [`tavily`], [`gemini`]: searches, at vendors that the operator configured.
//! 4. The sandbox reads all documents: `crate::sandbox`.
//! 5. [`embeddings`]: a job of the kind `topic_embedding` has a model turn sources into vectors.

mod collect;
mod config;
mod embeddings;
mod fetch;
mod gemini;
mod handlers;
mod hosts;
mod searxng;
mod store;
mod tavily;
mod vendor;

use std::sync::Arc;

use collect::Collector;
use config::TopicsConfig;
use embeddings::EmbeddingHandler;
use fetch::Fetcher;
use handlers::DiscoveryHandler;
use kijko_core::{Context, Domain, Setup, SetupError, config::Reader};
use store::Store;

use super::llm::{JobCalls, JobCallsConfig};
use crate::sandbox::Sandbox;

/// Reads `KIJKO_SEARXNG_URL`, `TAVILY_*`, `GEMINI_*`, `KIJKO_DISCOVERY_HOST_PAUSE_MS`, and the settings of the gateway, by which sources
/// are embedded.
pub fn from_env(env: &mut Reader<'_>) -> Setup {
    let config = TopicsConfig::read(env);
    let calls = JobCallsConfig::read(env);
    Box::new(move |context| domain(&config, &calls, context))
}

fn domain(
    config: &TopicsConfig,
    calls: &JobCallsConfig,
    context: &Context,
) -> Result<Domain, SetupError> {
    let sandbox = Arc::new(Sandbox::of_this_program()?);
    let fetcher = Fetcher::new(sandbox.clone(), config.host_pause);
    let collector = Collector::new(config, fetcher, sandbox)?;
    let store = Store::new(context.db.clone());
    let models = JobCalls::new(calls, context)?;
    let mut domain = Domain {
        background: vec![models.stopping(context)],
        ..Domain::default()
    };
    domain.jobs.register(Arc::new(DiscoveryHandler {
        store: store.clone(),
        collector,
    }));
    domain
        .jobs
        .register(Arc::new(EmbeddingHandler { store, models }));
    Ok(domain)
}
