//! The service's one domain: the API, and the sweeper beside it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use kijko_core::{
    Context, Domain, Setup, SetupError,
    config::Reader,
    telemetry::readiness::{Check, Report, Status},
};
use tokio::sync::Mutex;

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
    let blobs = Blobs::open(&config.place)?;
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
        checks: vec![Arc::new(StoreCheck::new(blobs))],
        background: vec![Box::new(move |stop| Box::pin(sweeper::run(swept, stop)))],
        ..Domain::default()
    })
}

/// How long an answer of the store is kept. Otherwise each readiness probe would be a request to the store.
const BELIEVED: Duration = Duration::from_secs(5);
const PROBE: Duration = Duration::from_secs(10);

struct StoreCheck {
    blobs: Blobs,
    last: Mutex<Option<(Instant, Status)>>,
}

impl StoreCheck {
    fn new(blobs: Blobs) -> Self {
        Self {
            blobs,
            last: Mutex::new(None),
        }
    }

    async fn probe(&self) -> Status {
        let problem = match tokio::time::timeout(PROBE, self.blobs.probe()).await {
            Ok(Ok(())) => return Status::Ok,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {PROBE:?}"),
        };
        tracing::warn!(problem, "the store of the objects cannot be used");
        Status::Down
    }
}

impl Check for StoreCheck {
    fn name(&self) -> &'static str {
        "store"
    }

    fn look(&self, _: bool) -> BoxFuture<'_, Report> {
        Box::pin(async {
            // Those that ask at once wait for one answer.
            let mut last = self.last.lock().await;
            let status = match *last {
                Some((at, status)) if at.elapsed() < BELIEVED => status,
                _ => {
                    let status = self.probe().await;
                    *last = Some((Instant::now(), status));
                    status
                }
            };
            Report::new(status)
        })
    }
}
