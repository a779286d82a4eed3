//! Social posts: publishes what is due on LinkedIn, Facebook, Instagram and X.
//!
//! 1. `handlers`: a job of the kind `social_publish` asks the database what to do with its post.
//! 2. `platform` and the module of each platform: what is uploaded first, and the one call that creates the post.
//! 3. `failure`: what an answer of a platform means. An answer that does not say whether the post was created is never repeated;
//!    the platform is asked whether it shows the post.
//! 4. `little`: LinkedIn's text format. `http`: requests and answers. `post`: what is
//!    known of a post. `store`: the SQL.

mod config;
mod facebook;
mod failure;
mod handlers;
mod http;
mod instagram;
mod linkedin;
mod little;
mod meta;
mod metrics;
mod platform;
mod post;
mod store;
mod twitter;

use std::sync::Arc;

use config::SocialConfig;
use handlers::PublishHandler;
use http::Http;
use kijko_core::{Context, Domain, Setup, SetupError, config::Reader};
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
    domain.jobs.register(Arc::new(PublishHandler {
        store: Store::new(context.db.clone()),
        limit: config.timeout,
        platforms: Arc::new(Platforms::new(config, http)),
        series,
    }));
    Ok(domain)
}
