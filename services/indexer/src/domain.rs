//! The service's one domain: jobs of one kind, and the cache.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use kijko_core::{
    Context, Domain, Setup, SetupError,
    config::Reader,
    jobs::Registry,
    telemetry::readiness::{Check, Report, Status},
};
use kijko_guard::Guard;

use crate::{
    cache::Cache, config::Config, fetch::Fetcher, handler::Index, metrics::IndexerSeries,
    tidy::Tidy,
};

/// Reads the settings.
pub fn from_env(env: &mut Reader<'_>) -> Setup {
    let config = Config::read(env);
    Box::new(move |context| domain(context, config))
}

fn domain(context: &Context, config: Config) -> Result<Domain, SetupError> {
    let series = Arc::new(IndexerSeries::default());
    let cache = Arc::new(Cache::open(
        &config.dir,
        config.cache_bytes,
        config.cache_age,
    )?);
    let guard = Guard::new(config.allowed.clone());
    let fetcher = Fetcher::new(guard, config.mirrors.clone(), config.idle)?;
    let mut jobs = Registry::default();
    jobs.register(Arc::new(Index {
        db: context.db.clone(),
        fetcher,
        cache: cache.clone(),
        config,
        series: series.clone(),
    }));
    let tidy = Tidy {
        cache: cache.clone(),
        db: context.db.clone(),
        series: series.clone(),
    };
    Ok(Domain {
        jobs,
        background: vec![Box::new(move |stop| Box::pin(tidy.run(stop)))],
        series: vec![series],
        checks: vec![Arc::new(CacheCheck(cache))],
        ..Domain::default()
    })
}

/// Whether the cache can be written.
struct CacheCheck(Arc<Cache>);

impl Check for CacheCheck {
    fn name(&self) -> &'static str {
        "cache"
    }

    fn look(&self, _: bool) -> BoxFuture<'_, Report> {
        Box::pin(async {
            let cache = self.0.clone();
            let probed = tokio::task::spawn_blocking(move || cache.probe()).await;
            Report::new(match probed {
                Ok(Ok(())) => Status::Ok,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the cache cannot be written");
                    Status::Down
                }
                Err(_) => Status::Down,
            })
        })
    }
}
