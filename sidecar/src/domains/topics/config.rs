//! The settings of discoveries.

use std::time::Duration;

use kijko_core::{
    config::Reader,
    outbound::{Url, header},
    secret::Secret,
};

use crate::llm::{LlmConfig, VendorConfig, vendor_url};

/// Tavily's own address.
const TAVILY: &str = "https://api.tavily.com";

/// Who is asked, and how often.
pub(super) struct TopicsConfig {
    /// A SearXNG of the operator.
    pub searxng: Option<Url>,
    /// Tavily's address and the operator's key.
    pub tavily: Option<(Url, Secret)>,
    /// Google's, as for calls of models.
    pub gemini: Option<VendorConfig>,
    /// Between two requests to a host.
    pub host_pause: Duration,
}

impl TopicsConfig {
    pub(super) fn read(env: &mut Reader<'_>) -> Self {
        let searxng = env.text("KIJKO_SEARXNG_URL");
        let searxng = searxng.and_then(|url| vendor_url(env, "KIJKO_SEARXNG_URL", &url));
        let url = env.text("TAVILY_BASE_URL");
        let url = vendor_url(env, "TAVILY_BASE_URL", url.as_deref().unwrap_or(TAVILY));
        let key = env.text("TAVILY_API_KEY").map(Secret::new);
        let is_sendable = |key: &Secret| header::HeaderValue::from_str(key.expose()).is_ok();
        if key.as_ref().is_some_and(|key| !is_sendable(key)) {
            env.problem(
                "TAVILY_API_KEY",
                "has characters that no HTTP header may carry",
            );
        }
        Self {
            searxng,
            tavily: url.zip(key),
            gemini: LlmConfig::read(env).gemini,
            host_pause: env.millis("KIJKO_DISCOVERY_HOST_PAUSE_MS", 1_000, 0..=60_000),
        }
    }
}
