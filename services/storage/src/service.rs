//! The name of this service, and where it listens.

use kijko_core::{Service, service::Listeners};

/// The storage service.
pub const SERVICE: Service = Service {
    name: "kijko-storage",
    version: crate::VERSION,
    manual: "docs/reference/settings.md",
    listeners: Listeners {
        public: ("KIJKO_STORAGE_BIND", "127.0.0.1:54339"),
        operators: ("KIJKO_STORAGE_OPERATORS_BIND", "127.0.0.1:54340"),
    },
    streams: true,
    traces: true,
};
