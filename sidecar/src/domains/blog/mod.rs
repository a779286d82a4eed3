//! Blog posts: their Markdown becomes HTML that is safe to show, as a job of the kind `blog_render`. Nobody else writes that HTML.

mod handlers;
mod render;
mod store;

use std::sync::Arc;

use handlers::RenderHandler;
use kijko_core::{Context, Domain, Setup, config::Reader};
use store::Store;

/// It has no settings.
pub fn from_env(_: &mut Reader<'_>) -> Setup {
    Box::new(|context| Ok(domain(context)))
}

fn domain(context: &Context) -> Domain {
    let mut domain = Domain::default();
    let render = RenderHandler::new(Store::new(context.db.clone()));
    domain.jobs.register(Arc::new(render));
    domain
}
