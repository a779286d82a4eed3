//! Prompts: each version is checked in the sandbox, as a job of the kind `prompt_check`. `POST /functions/v1/render-prompt` renders a
//! stored prompt or a draft, and `GET /api/public/v2/prompts` answers Langfuse's clients. Calls of models with a prompt are the
//! gateway's (`llm`).

mod handlers;
mod langfuse;
mod routes;
mod store;

use std::sync::Arc;

use handlers::PromptCheckHandler;
use kijko_core::{Context, Domain, Setup, SetupError, config::Reader, outbound::Url};
use routes::Render;
use store::Store;

use crate::{api::Api, rendering::Renderer, turns};

/// Reads `KIJKO_REST_URL`.
pub fn from_env(env: &mut Reader<'_>) -> Setup {
    // Other domains read the same variable; a problem is reported once.
    let rest_url = Api::url(env);
    Box::new(move |context| domain(rest_url, context))
}

fn domain(rest_url: Option<Url>, context: &Context) -> Result<Domain, SetupError> {
    let renderer = Arc::new(Renderer::new(turns::MAX_WAITING)?);
    let api = Api::at(rest_url)?;
    let mut domain = Domain {
        routes: routes::routes(Render {
            api: api.clone(),
            renderer: renderer.clone(),
            max_body_bytes: context.max_body_bytes,
        })
        .merge(langfuse::routes(api)),
        ..Domain::default()
    };
    let check = PromptCheckHandler::new(Store::new(context.db.clone()), renderer);
    domain.jobs.register(Arc::new(check));
    Ok(domain)
}
