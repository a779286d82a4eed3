//! What operators see of publishing.

use kijko_core::telemetry::metrics::{Counter, EncodeLabelSet, Registry, Series};
use prometheus_client::metrics::family::Family;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    platform: String,
    outcome: &'static str,
}

/// Counters of attempts.
#[derive(Default)]
pub(super) struct SocialSeries {
    attempts: Family<Labels, Counter>,
}

impl SocialSeries {
    /// One attempt or look that has ended.
    pub(super) fn ended(&self, platform: &str, outcome: &'static str) {
        let platform = platform.to_owned();
        let labels = Labels { platform, outcome };
        self.attempts.get_or_create(&labels).inc();
    }
}

impl Series for SocialSeries {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "social_attempts",
            "Attempts to publish a social post, and looks whether it is there, by platform and outcome",
            self.attempts.clone(),
        );
    }
}
