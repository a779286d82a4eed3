//! Social posts: publishes what is due on LinkedIn, Facebook, Instagram and X.
//!
//! 1. `handlers`: a job of the kind `social_publish` asks the database what to do with its post.
//! 2. `platform` and the module of each platform: what is uploaded first, and the one call that creates the post.
//! 3. `failure`: what an answer of a platform means. An answer that does not say whether the post was created is never repeated;
//!    the platform is asked whether it shows the post.
//! 4. `media` and `size`: a job of the kind `social_measurement` reads an uploaded image and records its size, by which the database
//!    refuses posts that a platform would refuse.
//! 5. `little`: LinkedIn's text format. `http`: requests and answers. `post`: what is
//!    known of a post. `store`: the SQL.

mod config;
mod facebook;
mod failure;
mod handlers;
mod http;
mod instagram;
mod linkedin;
mod little;
mod media;
mod meta;
mod metrics;
mod platform;
mod post;
mod size;
mod store;
mod twitter;

use std::sync::Arc;

use config::SocialConfig;
use handlers::PublishHandler;
use http::Http;
use kijko_core::{Context, Domain, Setup, SetupError, config::Reader};
use media::{Bucket, MeasurementHandler};
use metrics::SocialSeries;
use platform::Platforms;
use store::Store;

/// Reads `KIJKO_SOCIAL_*` and `KIJKO_STORAGE_URL`.
pub fn from_env(env: &mut Reader<'_>) -> Setup {
    let config = SocialConfig::read(env);
    Box::new(move |context| domain(config, context))
}

fn domain(config: SocialConfig, context: &Context) -> Result<Domain, SetupError> {
    let http = Http::new(config.timeout)?;
    let series = Arc::new(SocialSeries::default());
    let mut domain = Domain {
        series: vec![series.clone()],
        ..Domain::default()
    };
    let store = Store::new(context.db.clone());
    let bucket = Bucket {
        http: http.clone(),
        storage: config.storage.clone(),
    };
    domain.jobs.register(Arc::new(MeasurementHandler {
        store: store.clone(),
        bucket: bucket.clone(),
    }));
    domain.jobs.register(Arc::new(PublishHandler {
        store,
        limit: config.timeout,
        platforms: Arc::new(Platforms::new(config, http, bucket)),
        series,
    }));
    Ok(domain)
}
