//! What operators see of requests, from the log of the proxy: all parts of the API in one place.

use kijko_core::telemetry::metrics::{
    Counter, EncodeLabelSet, Gauges, Histograms, Registry, Series, Unit, histograms,
};
use prometheus_client::metrics::family::Family;

use super::line::{LoggedRequest, part};

const SECONDS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0, 60.0,
];

type NoLabels = [(&'static str, &'static str); 0];

/// What became of a line.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome {
    Recorded,
    NotSampled,
    Skipped,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::NotSampled => "not_sampled",
            Self::Skipped => "skipped",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    part: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabels {
    part: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

pub(super) struct RequestLogSeries {
    requests: Family<RequestLabels, Counter>,
    durations: Histograms<PartLabels>,
    lines: Family<OutcomeLabels, Counter>,
    unread: Gauges<NoLabels>,
}

impl Default for RequestLogSeries {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            durations: histograms(&SECONDS),
            lines: Family::default(),
            unread: Gauges::default(),
        }
    }
}

impl RequestLogSeries {
    pub fn request(&self, request: &LoggedRequest) {
        let part = part(&request.route);
        let status = match request.status {
            0..=199 => "other",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.requests
            .get_or_create(&RequestLabels { part, status })
            .inc();
        self.durations
            .get_or_create(&PartLabels { part })
            .observe(request.duration_ms / 1e3);
    }

    pub fn lines(&self, outcome: Outcome, count: u64) {
        let outcome = outcome.name();
        self.lines
            .get_or_create(&OutcomeLabels { outcome })
            .inc_by(count);
    }

    pub fn set_unread(&self, bytes: u64) {
        self.unread.get_or_create(&[]).set(bytes as f64);
    }
}

impl Series for RequestLogSeries {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "api_requests",
            "Requests of the API by part and class of status, from the log of the proxy",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "api_request_duration",
            "Time of requests of the API by part, from the log of the proxy",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register(
            "access_log_lines",
            "Lines of the log of the proxy that this process has read, by what became of them",
            self.lines.clone(),
        );
        registry.register_with_unit(
            "access_log_unread",
            "What of the log of the proxy has not been read",
            Unit::Bytes,
            self.unread.clone(),
        );
    }
}
