//! The HTTP server's settings.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use crate::{config::Reader, service::Service};

/// The HTTP server's settings.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Where the public routes are. Loopback by default: a proxy is the one origin.
    pub public: SocketAddr,
    /// Where the operators' routes are. No proxy leads there.
    pub operators: SocketAddr,
    /// A request that takes longer is logged as slow.
    pub slow_request: Duration,
    /// A request that takes longer is answered with 503.
    pub request_timeout: Duration,
    /// Larger request bodies are refused with 413.
    pub max_body_bytes: usize,
    /// Whether handlers bound bodies and their time themselves.
    pub streams: bool,
}

/// The limits of one route.
#[derive(Debug, Clone, Copy)]
pub struct RouteLimit {
    /// A request that takes longer is answered with 503.
    pub request_timeout: Duration,
    /// Larger request bodies are refused with 413.
    pub max_body_bytes: usize,
}

/// Limits by the template of the route.
pub type RouteLimits = HashMap<&'static str, RouteLimit>;

impl HttpConfig {
    pub(crate) fn read(env: &mut Reader<'_>) -> Self {
        let Service {
            listeners, streams, ..
        } = env.service();
        let mut address =
            |(name, default)| env.parsed(name, default, &format!("an address such as {default}"));
        Self {
            public: address(listeners.public),
            operators: address(listeners.operators),
            slow_request: env.millis("KIJKO_SLOW_REQUEST_MS", 1_000, 1..=600_000),
            request_timeout: env.seconds("KIJKO_REQUEST_TIMEOUT_SECONDS", 30, 1..=600),
            max_body_bytes: env.number("KIJKO_MAX_BODY_BYTES", 1 << 20, 1_024..=64 << 20) as usize,
            streams,
        }
    }
}
