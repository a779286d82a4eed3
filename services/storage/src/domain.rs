//! The service's one domain: the API, and the sweeper beside it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use kijko_core::{
    Context, Domain, Setup, SetupError,
    config::Reader,
    telemetry::readiness::{Check, Report, Status},
};

use crate::{
    blobs::Blobs,
    config::Config,
    database::Database,
    metrics::StorageSeries,
    routes::{self, App},
    sweeper,
    token::Signer,
    upload::Uploads,
};

/// Reads the settings.
pub fn from_env(env: &mut Reader<'_>) -> Setup {
    let config = Config::read(env);
    Box::new(move |context| domain(context, config))
}

fn domain(context: &Context, config: Config) -> Result<Domain, SetupError> {
    let blobs = Blobs::in_folder(&config.folder)?;
    let series = Arc::new(StorageSeries::default());
    let signer = Signer::new(&config.signing_keys);
    let uploads = Arc::new(Uploads {
        database: Database(context.db.clone()),
        blobs: blobs.clone(),
        config: Arc::new(config),
        series: series.clone(),
    });
    let swept = uploads.clone();
    Ok(Domain {
        routes: routes::routes(Arc::new(App { uploads, signer })),
        series: vec![series],
        checks: vec![Arc::new(FolderCheck(blobs))],
        background: vec![Box::new(move |stop| Box::pin(sweeper::run(swept, stop)))],
        ..Domain::default()
    })
}

struct FolderCheck(Blobs);

impl Check for FolderCheck {
    fn name(&self) -> &'static str {
        "folder"
    }

    fn look(&self, _: bool) -> BoxFuture<'_, Report> {
        Box::pin(async {
            Report::new(match self.0.is_there().await {
                true => Status::Ok,
                false => Status::Down,
            })
        })
    }
}
