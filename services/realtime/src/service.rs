//! The name of this service, and where it listens.

use kijko_core::{Service, service::Listeners};

/// The realtime service.
pub const SERVICE: Service = Service {
    name: "kijko-realtime",
    version: crate::VERSION,
    manual: "docs/reference/settings.md",
    listeners: Listeners {
        public: ("KIJKO_REALTIME_BIND", "127.0.0.1:54337"),
        operators: ("KIJKO_REALTIME_OPERATORS_BIND", "127.0.0.1:54338"),
    },
    streams: false,
    traces: true,
};
