//! What operators see of requests.

use std::time::Duration;

use prometheus_client::metrics::{counter::Counter, family::Family};

use crate::telemetry::metrics::{EncodeLabelSet, Histograms, Registry, Series, Unit, histograms};

const REQUEST_SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: String,
}

/// Requests by route.
pub struct HttpSeries {
    requests: Family<RequestLabels, Counter>,
    durations: Histograms<RouteLabels>,
}

impl Default for HttpSeries {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            durations: histograms(&REQUEST_SECONDS),
        }
    }
}

impl HttpSeries {
    /// One request. The route is the template, never the path: there is no end of paths.
    pub fn request(&self, method: &'static str, route: &str, status: u16, duration: Duration) {
        let route = route.to_owned();
        self.durations
            .get_or_create(&RouteLabels {
                method,
                route: route.clone(),
            })
            .observe(duration.as_secs_f64());
        self.requests
            .get_or_create(&RequestLabels {
                method,
                route,
                status,
            })
            .inc();
    }
}

impl Series for HttpSeries {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "http_requests",
            "Requests by route and status",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "http_request_duration",
            "Time to answer",
            Unit::Seconds,
            self.durations.clone(),
        );
    }
}
