//! What operators see.

use kijko_core::telemetry::metrics::{Counter, Registry, Series};
use prometheus_client::metrics::gauge::Gauge;

/// Objects, bytes, and what waits to be swept.
#[derive(Debug, Default)]
pub struct StorageSeries {
    /// Objects that were stored.
    pub uploads: Counter,
    /// Objects that were read, whole or in part.
    pub downloads: Counter,
    /// Bytes that were stored.
    pub received_bytes: Counter,
    /// Bytes of objects in answers.
    pub sent_bytes: Counter,
    /// Uploads that limits refused before their bytes were read.
    pub refused: Counter,
    /// Uploads that were given up because their service had ended.
    pub swept: Counter,
    /// Objects whose bytes were deleted.
    pub deleted: Counter,
    /// Uploads under way, of all instances.
    pub under_way: Gauge,
    /// Bytes of objects that are due to be deleted.
    pub deletions_due: Gauge,
}

impl Series for StorageSeries {
    fn register(&self, registry: &mut Registry) {
        let mut counter = |name: &str, help: &str, counter: &Counter| {
            registry.register(name, help, counter.clone())
        };
        counter("storage_uploads", "Objects that were stored", &self.uploads);
        counter(
            "storage_downloads",
            "Objects that were read, whole or in part",
            &self.downloads,
        );
        counter(
            "storage_received_bytes",
            "Bytes that were stored",
            &self.received_bytes,
        );
        counter(
            "storage_sent_bytes",
            "Bytes of objects in answers",
            &self.sent_bytes,
        );
        counter(
            "storage_refused",
            "Uploads that limits refused before their bytes were read",
            &self.refused,
        );
        counter(
            "storage_swept",
            "Uploads that were given up because their service had ended",
            &self.swept,
        );
        counter(
            "storage_deleted",
            "Objects whose bytes were deleted",
            &self.deleted,
        );
        registry.register(
            "storage_uploads_under_way",
            "Uploads under way, of all instances",
            self.under_way.clone(),
        );
        registry.register(
            "storage_deletions_due",
            "Objects whose bytes are due to be deleted",
            self.deletions_due.clone(),
        );
    }
}
