//! Skills: their templates and schemas are checked in the sandbox, as jobs of the kind `skill_check` after each save, and at once
//! for editors, by `POST /functions/v1/skills-check`. Dry runs are the same check with an input, also as jobs of the kind
//! `skill_test`.

mod check;
mod config;
mod handlers;
mod routes;
mod store;

use std::sync::Arc;

use check::Checker;
use config::SkillsConfig;
use handlers::{SkillCheckHandler, SkillTestHandler};
use kijko_core::{Context, Domain, Setup, SetupError, config::Reader};
use routes::{Check, routes};
use store::Store;

use crate::{api::Api, input_files::InputFiles, sandbox::Sandbox};

/// Reads `KIJKO_REST_URL`, and the longest answer of models.
pub fn from_env(env: &mut Reader<'_>) -> Setup {
    let config = SkillsConfig::read(env);
    Box::new(move |context| domain(config, context))
}

fn domain(config: SkillsConfig, context: &Context) -> Result<Domain, SetupError> {
    let sandbox = Sandbox::of_this_program().map_err(|error| format!("the sandbox: {error}"))?;
    let store = Store::new(context.db.clone());
    let checker = Arc::new(Checker {
        sandbox,
        store: store.clone(),
        default_max_tokens: config.default_max_tokens,
    });
    let api = Api::at(config.rest_url)?;
    let mut domain = Domain {
        routes: routes(Check::new(api, checker.clone(), context.max_body_bytes)),
        ..Domain::default()
    };
    let check = SkillCheckHandler::new(store.clone(), checker.clone());
    domain.jobs.register(Arc::new(check));
    let files = InputFiles::new(context.db.clone(), config.storage_url)
        .map_err(|error| format!("the client of the storage service: {error}"))?;
    domain
        .jobs
        .register(Arc::new(SkillTestHandler::new(store, checker, files)));
    Ok(domain)
}
