//! The name of this service, and where it listens.

use kijko_core::{Service, service::Listeners};

/// The sidecar.
pub const SERVICE: Service = Service {
    name: "kijko-sidecar",
    version: crate::VERSION,
    manual: "docs/reference/settings.md",
    listeners: Listeners {
        public: ("KIJKO_SIDECAR_BIND", "127.0.0.1:54333"),
        operators: ("KIJKO_SIDECAR_OPERATORS_BIND", "127.0.0.1:54336"),
    },
    streams: false,
    traces: true,
};
