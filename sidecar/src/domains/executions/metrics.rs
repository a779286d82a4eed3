//! What operators see of calls of model vendors.

use std::{sync::Arc, time::Instant};

use futures_util::future::BoxFuture;
use kijko_core::telemetry::{
    metrics::{
        Counter, EncodeLabelSet, Histograms, Registry, Series, Unit, WORK_SECONDS, histograms,
    },
    readiness::{Check, Report, Status},
};
use prometheus_client::metrics::family::Family;
use serde::Serialize;
use serde_json::json;

use super::vendor_health::{VendorHealth, Vendors};
use crate::llm::{LlmError, Progress};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    provider: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProviderLabels {
    provider: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    provider: &'static str,
    direction: &'static str,
}

/// Calls of vendors.
pub struct CallSeries {
    calls: Family<CallLabels, Counter>,
    durations: Histograms<ProviderLabels>,
    first_token: Histograms<ProviderLabels>,
    tokens: Family<TokenLabels, Counter>,
    vendors: Vendors,
}

impl Default for CallSeries {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            durations: histograms(&WORK_SECONDS),
            first_token: histograms(&WORK_SECONDS),
            tokens: Family::default(),
            vendors: Vendors::default(),
        }
    }
}

impl CallSeries {
    /// One call, from now on.
    pub(super) fn call(self: &Arc<Self>, provider: &'static str, progress: Progress) -> Call {
        Call {
            series: self.clone(),
            provider,
            progress,
            start: Instant::now(),
            outcome: "dropped",
            vendors_fault: None,
        }
    }

    fn count(&self, call: &Call) {
        let (provider, state) = (call.provider, call.progress.state());
        let labels = ProviderLabels { provider };
        let seconds = call.start.elapsed().as_secs_f64();
        self.durations.get_or_create(&labels).observe(seconds);
        if let Some(wait) = state.first_token {
            let seconds = wait.as_secs_f64();
            self.first_token.get_or_create(&labels).observe(seconds);
        }
        let outcome = call.outcome;
        self.calls
            .get_or_create(&CallLabels { provider, outcome })
            .inc();
        for (direction, tokens) in [
            ("input", state.usage.input),
            ("output", state.usage.output),
            ("cache_read", state.usage.cache_read),
            ("cache_write", state.usage.cache_write),
        ] {
            let labels = TokenLabels {
                provider,
                direction,
            };
            self.tokens.get_or_create(&labels).inc_by(tokens);
        }
        if let Some(failed) = call.vendors_fault {
            self.vendors.ended(provider, failed);
        }
    }
}

impl Series for CallSeries {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "llm_calls",
            "Calls of model vendors; the outcome is ok, an error code, or dropped",
            self.calls.clone(),
        );
        registry.register_with_unit(
            "llm_call_duration",
            "Time of a vendor's call",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register_with_unit(
            "llm_first_token",
            "Time until a vendor's answer began",
            Unit::Seconds,
            self.first_token.clone(),
        );
        registry.register(
            "llm_tokens",
            "Tokens as vendors count them; cached ones are among the input",
            self.tokens.clone(),
        );
    }
}

/// A call that runs. It is counted when it is dropped, so that a call that ends half-way is counted too.
pub(super) struct Call {
    series: Arc<CallSeries>,
    provider: &'static str,
    progress: Progress,
    start: Instant,
    outcome: &'static str,
    /// `None` while it is not known.
    vendors_fault: Option<bool>,
}

impl Call {
    /// It came to an end by itself.
    pub(super) fn ended(&mut self, error: Option<&LlmError>) {
        self.outcome = error.map_or("ok", LlmError::code);
        self.vendors_fault = Some(error.is_some_and(|error| error.fault.is_vendors()));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.series.clone().count(self);
    }
}

/// `llm`: never down, since without a vendor, or with one that fails, everything else goes on.
pub(super) struct ModelCheck {
    pub providers: Vec<&'static str>,
    pub calls: Arc<CallSeries>,
}

/// A vendor's last five minutes.
#[derive(Debug, Serialize)]
struct Recent {
    name: &'static str,
    status: Status,
    calls: usize,
    errors: usize,
    error_rate: f64,
}

impl From<VendorHealth> for Recent {
    fn from(health: VendorHealth) -> Self {
        Self {
            name: health.name,
            status: Status::degraded_unless(!health.is_unhealthy()),
            calls: health.calls,
            errors: health.errors,
            error_rate: (health.error_rate() * 1e3).round() / 1e3,
        }
    }
}

impl Check for ModelCheck {
    fn name(&self) -> &'static str {
        "llm"
    }

    fn look(&self, _: bool) -> BoxFuture<'_, Report> {
        let vendors = &self.calls.vendors;
        let recent: Vec<Recent> = self
            .providers
            .iter()
            .map(|name| vendors.health(name).into())
            .collect();
        let worst = recent.iter().map(|vendor| vendor.status).max();
        let report = Report::new(worst.unwrap_or(Status::Degraded))
            .with("providers", json!(self.providers))
            .with("recent", json!(recent));
        Box::pin(async move { report })
    }
}

#[cfg(test)]
mod tests {
    use kijko_core::telemetry::metrics::Metrics;
    use serde_json::Value;

    use super::*;
    use crate::{app::SERVICE, llm::LlmFault};

    #[test]
    fn calls_are_counted_however_they_end() {
        let series = Arc::<CallSeries>::default();
        let limited = LlmError::new(LlmFault::RateLimited, "");
        series
            .call("openai", Progress::default())
            .ended(Some(&limited));
        drop(series.call("gemini", Progress::default()));
        let text = Metrics::new(SERVICE, vec![series]).encode().unwrap();
        for line in [
            r#"kijko_llm_calls_total{provider="openai",outcome="vendor_rate_limited"} 1"#,
            r#"kijko_llm_calls_total{provider="gemini",outcome="dropped"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[tokio::test]
    async fn a_vendor_whose_calls_fail_is_degraded_and_never_down() {
        let calls = Arc::<CallSeries>::default();
        let check = ModelCheck {
            providers: vec!["echo"],
            calls: calls.clone(),
        };
        let ended = |fault: Option<LlmFault>| {
            let error = fault.map(|fault| LlmError::new(fault, "x"));
            calls
                .call("echo", Progress::default())
                .ended(error.as_ref());
        };
        let look = async || -> Value { json!(check.look(true).await) };
        for _ in 0..8 {
            ended(Some(LlmFault::Refused));
        }
        let status = look().await["status"].clone();
        assert_eq!(status, "ok", "a refusal is not the vendor's fault");
        for _ in 0..8 {
            ended(Some(LlmFault::Overloaded));
        }
        let report = look().await;
        assert_eq!(
            (&report["status"], &report["recent"][0]["error_rate"]),
            (&json!("degraded"), &json!(0.5))
        );
        ended(None);
        assert_eq!(look().await["status"], "ok");
    }
}
