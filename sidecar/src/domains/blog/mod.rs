//! Blog posts: their Markdown becomes HTML that is safe to show, as a job of the kind `blog_render`; nobody else writes that HTML. And
//! models write outlines and drafts of them, as jobs of the kind `blog_draft`.

mod drafts;
mod handlers;
mod render;
mod store;

use std::sync::Arc;

use drafts::DraftHandler;
use handlers::RenderHandler;
use kijko_core::{Context, Domain, Setup, SetupError, config::Reader};
use store::Store;

use super::llm::{JobCalls, JobCallsConfig};

/// Reads the settings of the gateway, by which drafts call models.
pub fn from_env(env: &mut Reader<'_>) -> Setup {
    let calls = JobCallsConfig::read(env);
    Box::new(move |context| domain(&calls, context))
}

fn domain(calls: &JobCallsConfig, context: &Context) -> Result<Domain, SetupError> {
    let store = Store::new(context.db.clone());
    let models = JobCalls::new(calls, context)?;
    let mut domain = Domain {
        background: vec![models.stopping(context)],
        ..Domain::default()
    };
    let render = RenderHandler::new(store.clone());
    domain.jobs.register(Arc::new(render));
    let draft = DraftHandler::new(store, models);
    domain.jobs.register(Arc::new(draft));
    Ok(domain)
}
