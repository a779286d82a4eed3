//! The name of this service, and where it listens.

use kijko_core::{Service, service::Listeners};

/// The indexer. Nothing public is served: its work comes from the queue.
pub const SERVICE: Service = Service {
    name: "kijko-indexer",
    version: crate::VERSION,
    manual: "docs/reference/settings.md",
    listeners: Listeners {
        public: ("KIJKO_INDEXER_BIND", "127.0.0.1:54328"),
        operators: ("KIJKO_INDEXER_OPERATORS_BIND", "127.0.0.1:54330"),
    },
    streams: false,
    traces: false,
};
