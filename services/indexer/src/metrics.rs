//! What operators see.

use kijko_core::telemetry::metrics::{Counter, Registry, Series};
use prometheus_client::metrics::gauge::Gauge;

/// Fetches, files, and the cache.
#[derive(Debug, Default)]
pub struct IndexerSeries {
    /// Packs that were fetched.
    pub packs: Counter,
    /// Bytes of packs that were fetched.
    pub fetched_bytes: Counter,
    /// Files that were stored with their content.
    pub files: Counter,
    /// Files that were stored without it: binary, too large, generated.
    pub skipped: Counter,
    /// Children that ended before their work did.
    pub child_failures: Counter,
    /// Repositories whose cache was made anew because it was broken.
    pub cache_resets: Counter,
    /// Bytes of the cache.
    pub cache_bytes: Gauge,
}

impl Series for IndexerSeries {
    fn register(&self, registry: &mut Registry) {
        for (name, help, counter) in [
            ("indexer_packs", "Packs that were fetched", &self.packs),
            (
                "indexer_fetched_bytes",
                "Bytes of packs that were fetched",
                &self.fetched_bytes,
            ),
            (
                "indexer_files",
                "Files that were stored with their content",
                &self.files,
            ),
            (
                "indexer_skipped",
                "Files that were stored without their content: binary, too large, generated",
                &self.skipped,
            ),
            (
                "indexer_child_failures",
                "Parse processes that ended before their work did",
                &self.child_failures,
            ),
            (
                "indexer_cache_resets",
                "Repositories that were fetched anew because their cache was broken",
                &self.cache_resets,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "indexer_cache_bytes",
            "Bytes of fetched repositories on disk",
            self.cache_bytes.clone(),
        );
    }
}
