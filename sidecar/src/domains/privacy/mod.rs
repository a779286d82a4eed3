//! Privacy: archives of exports, downloads of them, and the journal of erasures.
//!
//! - [`export`]: jobs of the kind `privacy_export`. The database has collected the rows; the [`archive`] gets them and the files, and the
//!   [`bucket`] the archive.
//! - [`routes`]: a download by a link of `open_export()`, once.
//! - [`erasure`]: jobs of the kind `privacy_erasure`. The [`journal`] is outside the database and its backups; what is in it is erased
//!   again after a restore. Nothing is erased before it is there.

mod archive;
mod bucket;
mod config;
mod erasure;
mod export;
mod journal;
mod metrics;
mod routes;
mod store;

use std::sync::Arc;

use bucket::Bucket;
use config::PrivacyConfig;
use erasure::ErasureHandler;
use export::ExportHandler;
use journal::Journal;
use kijko_core::{Context, Domain, Setup, SetupError, config::Reader};
use metrics::PrivacySeries;
use routes::Downloads;
use store::Store;

use crate::api::Api;

/// Reads `KIJKO_STORAGE_URL`, `KIJKO_REST_URL`, `KIJKO_ERASURE_JOURNAL`, `KIJKO_EXPORT_DIR` and `KIJKO_EXPORT_MAX_BYTES`.
pub fn from_env(env: &mut Reader<'_>) -> Setup {
    let config = PrivacyConfig::read(env);
    Box::new(move |context| domain(config, context))
}

fn domain(config: PrivacyConfig, context: &Context) -> Result<Domain, SetupError> {
    let store = Store::new(context.db.clone());
    let bucket = config.storage.map(Bucket::new).transpose()?;
    let mut domain = Domain {
        routes: routes::routes(Downloads {
            api: Api::at(config.rest)?,
            store: store.clone(),
            bucket: bucket.clone(),
        }),
        series: vec![Arc::new(PrivacySeries::new(context.db.clone()))],
        ..Domain::default()
    };
    if let Some(bucket) = bucket {
        let handler = ExportHandler::new(store.clone(), bucket, config.folder, config.max_bytes);
        domain.jobs.register(Arc::new(handler));
    }
    if let Some(path) = config.journal {
        let handler = ErasureHandler::new(store, Journal::new(path));
        domain.jobs.register(Arc::new(handler));
    }
    Ok(domain)
}
