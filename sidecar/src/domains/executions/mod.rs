//! Executions: a skill's prompt, answered by a model. They are queued as jobs by `public.execute_skill` and by habits.

mod failures;
mod handlers;
mod metrics;
mod open_call;
mod output;
mod providers;
mod spans;
mod store;
mod text;
mod vendor_health;

use std::sync::Arc;

pub use handlers::{ExecutionHandler, ExecutionJob};
use kijko_core::{Context, Domain, Setup, SetupError, config::Reader, outbound::Url};
pub use metrics::CallSeries;
use metrics::ModelCheck;
pub use store::Store;

use crate::{
    input_files::InputFiles,
    llm::{LlmConfig, Models},
    sandbox::Sandbox,
};

/// Reads the settings of the model vendors.
pub fn from_env(env: &mut Reader<'_>) -> Setup {
    let config = LlmConfig::read(env);
    let storage = InputFiles::url(env);
    Box::new(move |context| domain(&config, storage, context))
}

fn domain(
    config: &LlmConfig,
    storage: Option<Url>,
    context: &Context,
) -> Result<Domain, SetupError> {
    let models =
        Models::new(config).map_err(|error| format!("the model vendor's client: {error}"))?;
    let sandbox = Sandbox::of_this_program().map_err(|error| format!("the sandbox: {error}"))?;
    let files = InputFiles::new(context.db.clone(), storage)
        .map_err(|error| format!("the client of the storage service: {error}"))?;
    let series = Arc::new(CallSeries::default());
    let providers = models.names();
    let check = ModelCheck {
        providers: providers.clone(),
        calls: series.clone(),
    };
    let handler = ExecutionHandler::new(
        Store::new(context.db.clone()),
        models,
        config.default_max_tokens,
        Arc::new(sandbox),
        Arc::new(files),
        series.clone(),
        context.tracer.clone(),
    );
    let mut domain = Domain {
        series: vec![series],
        checks: vec![Arc::new(check)],
        ..Domain::default()
    };
    Arc::new(handler).register(&mut domain.jobs);
    if context.runs_jobs {
        let store = Store::new(context.db.clone());
        domain
            .background
            .push(providers::report_until_stopped(store, providers));
    }
    Ok(domain)
}
