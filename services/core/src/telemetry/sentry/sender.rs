//! Posts one envelope for each report. It alone waits for Sentry.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant, SystemTime},
};

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use sentry_types::protocol::v7::{Envelope, EnvelopeHeaders, Event};
use tokio::sync::mpsc::Receiver;

use super::{
    config::SentryConfig,
    event::Events,
    layer,
    metrics::{Outcome, ReportSeries},
    queue::Report,
};
use crate::{
    outbound::{Client, Limits, OutboundError, Url, retry_after},
    service::Service,
    telemetry::throttle::LogThrottle,
};

/// Of one request. Reports that come meanwhile wait in the queue.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Sentry answers with an id. More of an answer is not read.
const MAX_ANSWER: usize = 64 << 10;
/// Sentry may ask to wait: so long if it does not say how long, and at most.
const PAUSE: Duration = Duration::from_secs(60);
const MAX_PAUSE: Duration = Duration::from_secs(3_600);

struct Sender {
    client: Client,
    endpoint: Url,
    headers: HeaderMap,
    events: Events,
    series: Arc<ReportSeries>,
    losses: LogThrottle,
    /// Until then nothing is sent.
    paused_until: Option<Instant>,
}

/// Starts the thread. The receiver hears when it has ended: the queue was closed, and is empty.
pub(super) fn start(
    service: Service,
    config: &SentryConfig,
    mut reports: Receiver<Report>,
    series: Arc<ReportSeries>,
) -> Result<mpsc::Receiver<()>, OutboundError> {
    let mut sender = Sender::new(service, config, series)?;
    let setup = |error: std::io::Error| OutboundError::Setup(error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(setup)?;
    let (ended, hears) = mpsc::sync_channel(1);
    let run = move || {
        layer::leave_out_this_thread();
        runtime.block_on(async {
            while let Some(report) = reports.recv().await {
                sender.send(report).await;
            }
        });
        let _ = ended.send(());
    };
    std::thread::Builder::new()
        .name("sentry".to_owned())
        .spawn(run)
        .map_err(setup)?;
    Ok(hears)
}

impl Sender {
    fn new(
        service: Service,
        config: &SentryConfig,
        series: Arc<ReportSeries>,
    ) -> Result<Self, OutboundError> {
        let limits = Limits {
            connect_timeout: TIMEOUT,
            total_timeout: TIMEOUT,
            idle_timeout: TIMEOUT,
            max_bytes: MAX_ANSWER,
        };
        let agent = format!("{}/{}", service.name, service.version);
        let auth = config.dsn.to_auth(Some(&agent)).to_string();
        let mut auth = HeaderValue::from_str(&auth)
            .map_err(|error| OutboundError::Setup(error.to_string()))?;
        auth.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert("x-sentry-auth", auth);
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-sentry-envelope"),
        );
        Ok(Self {
            client: Client::new(service, limits)?,
            endpoint: config.dsn.envelope_api_url(),
            headers,
            events: Events::new(service, config),
            series,
            losses: LogThrottle::new(),
            paused_until: None,
        })
    }

    async fn send(&mut self, report: Report) {
        if self.paused_until.is_some_and(|end| Instant::now() < end) {
            return self.series.count(Outcome::Dropped);
        }
        let Some(body) = envelope(self.events.event(report)) else {
            return self.lost(Outcome::Rejected, "the event has no JSON");
        };
        let request = self
            .client
            .post(self.endpoint.clone())
            .headers(self.headers.clone())
            .body(body);
        let answer = match self.client.send(request).await {
            Ok(answer) => answer,
            Err(error) => return self.lost(Outcome::Failed, &error.to_string()),
        };
        let status = answer.status().as_u16();
        if let Some(pause) = pause(status, answer.headers()) {
            self.paused_until = Some(Instant::now() + pause.min(MAX_PAUSE));
        }
        match status {
            200..=299 => {
                // Read to its end, so that the connection is used again.
                let _ = answer.bytes().await;
                self.series.count(Outcome::Sent);
            }
            429 => self.lost(Outcome::Dropped, "Sentry asks to wait"),
            500.. => self.lost(Outcome::Failed, &format!("Sentry answered {status}")),
            _ => self.lost(Outcome::Rejected, &format!("Sentry answered {status}")),
        }
    }

    fn lost(&self, outcome: Outcome, cause: &str) {
        self.series.count(outcome);
        if let Some(suppressed) = self.losses.due(Instant::now()) {
            tracing::warn!(cause, suppressed, "errors were not reported");
        }
    }
}

fn envelope(event: Event<'static>) -> Option<Vec<u8>> {
    let headers = EnvelopeHeaders::new()
        .with_event_id(event.event_id)
        .with_sent_at(SystemTime::now());
    let mut bytes = Vec::new();
    Envelope::from(event)
        .with_headers(headers)
        .to_writer(&mut bytes)
        .ok()?;
    Some(bytes)
}

/// How long Sentry wants no errors: `X-Sentry-Rate-Limits: 60:error;default:organization, 2700::key`, where no category stands for all.
fn pause(status: u16, headers: &HeaderMap) -> Option<Duration> {
    let limits = headers
        .get("x-sentry-rate-limits")
        .and_then(|limits| limits.to_str().ok());
    let Some(limits) = limits else {
        return (status == 429).then(|| retry_after(headers).unwrap_or(PAUSE));
    };
    let of_errors = limits.split(',').filter_map(|limit| {
        let mut parts = limit.trim().split(':');
        let seconds = parts.next()?.parse().ok()?;
        let categories = parts.next().unwrap_or_default();
        let counts = categories.is_empty() || categories.split(';').any(|it| it == "error");
        counts.then(|| Duration::from_secs(seconds))
    });
    of_errors.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentry_says_how_long_it_wants_no_errors() {
        let of = |status, headers: &[(&'static str, &'static str)]| {
            let headers = headers
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
            pause(status, &headers.collect()).map(|pause| pause.as_secs())
        };
        assert_eq!(of(200, &[]), None);
        assert_eq!(of(429, &[]), Some(60));
        assert_eq!(of(429, &[("retry-after", "7")]), Some(7));
        let limits = "x-sentry-rate-limits";
        assert_eq!(
            of(200, &[(limits, "9:error;default:organization, 20::key")]),
            Some(20)
        );
        assert_eq!(
            of(429, &[(limits, "9:transaction:key"), ("retry-after", "7")]),
            None
        );
        assert_eq!(of(200, &[(limits, "x:error, :, ,5")]), Some(5));
    }
}
