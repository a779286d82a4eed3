//! Documents: the texts of a project's files. The database says which files there are, and stores what is read of them.

mod handlers;
mod store;

use std::sync::Arc;

use handlers::IngestionHandler;
use kijko_core::{Context, Domain, Setup, SetupError, config::Reader, outbound::Url};
use store::Store;

use crate::input_files::InputFiles;

/// Reads `KIJKO_STORAGE_URL`.
pub fn from_env(env: &mut Reader<'_>) -> Setup {
    let storage = InputFiles::url(env);
    Box::new(move |context| domain(storage, context))
}

fn domain(storage: Option<Url>, context: &Context) -> Result<Domain, SetupError> {
    let mut domain = Domain::default();
    domain.jobs.register(Arc::new(IngestionHandler {
        store: Store::new(context.db.clone()),
        files: InputFiles::new(context.db.clone(), storage)?,
    }));
    Ok(domain)
}
