//! Skills: their templates and schemas are checked in the sandbox, as jobs of the kind `skill_check` after each save, and at once
//! for editors, by `POST /functions/v1/skills-check`.

mod check;
mod handlers;
mod store;

use std::sync::Arc;

use handlers::SkillCheckHandler;
use kijko_core::{Context, Domain, Setup, SetupError, config::Reader};
use store::Store;

use crate::sandbox::Sandbox;

/// Has no settings of its own.
pub fn from_env(_: &mut Reader<'_>) -> Setup {
    Box::new(domain)
}

fn domain(context: &Context) -> Result<Domain, SetupError> {
    let sandbox = Sandbox::of_this_program().map_err(|error| format!("the sandbox: {error}"))?;
    let sandbox = Arc::new(sandbox);
    let handler = SkillCheckHandler::new(Store::new(context.db.clone()), sandbox);
    let mut domain = Domain::default();
    domain.jobs.register(Arc::new(handler));
    Ok(domain)
}
