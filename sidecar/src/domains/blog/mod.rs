//! Blog posts: their Markdown becomes HTML that is safe to show, as a job of the kind `blog_render`; nobody else writes that HTML. And
//! models write outlines and drafts of them (`blog_draft`), and make their images (`blog_image`).

mod drafts;
mod handlers;
mod images;
mod picture;
mod render;
mod store;

use std::sync::Arc;

use drafts::DraftHandler;
use handlers::RenderHandler;
use images::{Bucket, ImageHandler};
use kijko_core::{Context, Domain, Setup, SetupError, config::Reader, outbound::Url};
use store::Store;

use super::llm::{JobCalls, JobCallsConfig};
use crate::input_files::InputFiles;

/// Reads the settings of the gateway, by which drafts and images call models, and `KIJKO_STORAGE_URL`.
pub fn from_env(env: &mut Reader<'_>) -> Setup {
    let calls = JobCallsConfig::read(env);
    let storage = InputFiles::url(env);
    Box::new(move |context| domain(&calls, storage, context))
}

fn domain(
    calls: &JobCallsConfig,
    storage: Option<Url>,
    context: &Context,
) -> Result<Domain, SetupError> {
    let store = Store::new(context.db.clone());
    let models = JobCalls::new(calls, context)?;
    let mut domain = Domain {
        background: vec![models.stopping(context)],
        ..Domain::default()
    };
    let render = RenderHandler::new(store.clone());
    domain.jobs.register(Arc::new(render));
    let draft = DraftHandler::new(store.clone(), models.clone());
    domain.jobs.register(Arc::new(draft));
    domain.jobs.register(Arc::new(ImageHandler {
        store,
        models,
        bucket: Bucket::new(storage)?,
    }));
    Ok(domain)
}
