//! What operators see.

use kijko_core::telemetry::metrics::{Counter, EncodeLabelSet, Registry, Series};
use prometheus_client::metrics::{family::Family, gauge::Gauge};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// Sockets, channels and messages.
pub struct RealtimeSeries {
    /// Open sockets.
    pub sockets: Gauge,
    /// Joined channels.
    pub channels: Gauge,
    /// Messages from sockets and HTTP.
    pub received: Counter,
    /// Messages from SQL.
    pub from_sql: Counter,
    /// Messages to sockets.
    pub sent: Counter,
    refused: Family<ReasonLabels, Counter>,
    lost_in_relay: Counter,
}

impl RealtimeSeries {
    /// At zero.
    pub fn new(lost_in_relay: Counter) -> Self {
        Self {
            sockets: Gauge::default(),
            channels: Gauge::default(),
            received: Counter::default(),
            from_sql: Counter::default(),
            sent: Counter::default(),
            refused: Family::default(),
            lost_in_relay,
        }
    }

    /// A socket, join or message that was refused.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabels { reason }).inc();
    }
}

impl Series for RealtimeSeries {
    fn register(&self, registry: &mut Registry) {
        registry.register("realtime_sockets", "Open sockets", self.sockets.clone());
        registry.register(
            "realtime_channels",
            "Joined channels",
            self.channels.clone(),
        );
        registry.register(
            "realtime_received",
            "Messages from sockets and HTTP",
            self.received.clone(),
        );
        registry.register(
            "realtime_from_sql",
            "Messages from SQL",
            self.from_sql.clone(),
        );
        registry.register("realtime_sent", "Messages to sockets", self.sent.clone());
        registry.register(
            "realtime_refused",
            "What was refused, by reason",
            self.refused.clone(),
        );
        registry.register(
            "realtime_lost_in_relay",
            "Messages that had no room on their way to other instances",
            self.lost_in_relay.clone(),
        );
    }
}
