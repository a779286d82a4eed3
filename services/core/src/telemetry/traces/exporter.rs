//! Sends batches of spans to the collector. It alone waits for a slow one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::body::Bytes;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::{
    config::TracesConfig,
    metrics::{Outcome, SpanSeries},
    queue::Queue,
};
use crate::{
    backoff::Backoff,
    outbound::{Client, Limits, OutboundError, Url, retry_after},
    service::Service,
    telemetry::{mask::mask, throttle::LogThrottle},
};

/// A collector says little. More of an answer is not read.
const MAX_ANSWER: usize = 64 << 10;
/// How often a batch is sent, and how long the collector may ask to wait.
const ATTEMPTS: u32 = 5;
const MAX_WAIT: Duration = Duration::from_secs(30);

/// The exporter.
pub(super) struct Exporter {
    client: Client,
    endpoint: Url,
    headers: HeaderMap,
    resource: Resource,
    scope: InstrumentationScope,
    queue: Arc<Queue>,
    series: Arc<SpanSeries>,
    losses: LogThrottle,
}

/// What an attempt has brought.
enum Sent {
    /// The collector has the batch, but for so many spans.
    Taken { rejected: u64 },
    /// It may take it later.
    Later {
        wait: Option<Duration>,
        cause: String,
    },
    /// It will not.
    Refused { cause: String },
}

impl Exporter {
    pub(super) fn new(
        service: Service,
        config: &TracesConfig,
        queue: Arc<Queue>,
        series: Arc<SpanSeries>,
    ) -> Result<Self, OutboundError> {
        let limits = Limits {
            connect_timeout: config.timeout,
            total_timeout: config.timeout,
            idle_timeout: config.timeout,
            max_bytes: MAX_ANSWER,
        };
        let mut headers = config.headers.clone();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-protobuf"),
        );
        let mut resource = config.resource.clone();
        resource
            .entry("service.name".to_owned())
            .or_insert_with(|| service.name.to_owned());
        resource
            .entry("service.version".to_owned())
            .or_insert_with(|| service.version.to_owned());
        let attributes = resource.into_iter().map(|(key, text)| KeyValue {
            key,
            value: Some(AnyValue {
                value: Some(any_value::Value::StringValue(text)),
            }),
            ..KeyValue::default()
        });
        Ok(Self {
            client: Client::new(service, limits)?,
            endpoint: config.endpoint.clone(),
            headers,
            resource: Resource {
                attributes: attributes.collect(),
                ..Resource::default()
            },
            scope: InstrumentationScope {
                name: service.name.to_owned(),
                version: service.version.to_owned(),
                ..InstrumentationScope::default()
            },
            queue,
            series,
            losses: LogThrottle::new(),
        })
    }

    pub(super) fn queue(&self) -> Arc<Queue> {
        self.queue.clone()
    }

    /// Until the queue is closed and empty.
    pub(super) async fn run(self) {
        loop {
            let batch = self.queue.next().await;
            if batch.is_empty() {
                return;
            }
            self.export(batch).await;
        }
    }

    async fn export(&self, mut batch: Vec<Span>) {
        let count = batch.len() as u64;
        batch.iter_mut().for_each(masked);
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(self.scope.clone()),
                    spans: batch,
                    schema_url: String::new(),
                }],
                schema_url: String::new(),
            }],
        };
        let body = Bytes::from(request.encode_to_vec());
        drop(request);
        let mut backoff = Backoff::new(Duration::from_secs(1), MAX_WAIT);
        for attempt in 1..=ATTEMPTS {
            match self.send(body.clone()).await {
                Sent::Taken { rejected } => {
                    let rejected = rejected.min(count);
                    self.series.count(Outcome::Exported, count - rejected);
                    if rejected > 0 {
                        self.lost(
                            Outcome::Rejected,
                            rejected,
                            "the collector took a part of a batch",
                        );
                    }
                    return;
                }
                Sent::Refused { cause } => return self.lost(Outcome::Rejected, count, &cause),
                // At the end of the process there is no time for another attempt.
                Sent::Later { cause, .. } if attempt == ATTEMPTS || self.queue.is_closed() => {
                    return self.lost(Outcome::Failed, count, &cause);
                }
                Sent::Later { wait, .. } => {
                    let wait = wait.unwrap_or_else(|| backoff.next_delay()).min(MAX_WAIT);
                    self.queue.closed_within(wait).await;
                }
            }
        }
    }

    async fn send(&self, body: Bytes) -> Sent {
        let request = self
            .client
            .post(self.endpoint.clone())
            .headers(self.headers.clone())
            .body(body);
        let answer = match self.client.send(request).await {
            Ok(answer) => answer,
            Err(error) => {
                return Sent::Later {
                    wait: None,
                    cause: error.to_string(),
                };
            }
        };
        let status = answer.status().as_u16();
        match status {
            200..=299 => {
                // Whatever it says, it has the batch.
                let body = answer.bytes().await.unwrap_or_default();
                let answer =
                    ExportTraceServiceResponse::decode(body.as_slice()).unwrap_or_default();
                let rejected = answer
                    .partial_success
                    .map_or(0, |partial| partial.rejected_spans);
                Sent::Taken {
                    rejected: u64::try_from(rejected).unwrap_or(0),
                }
            }
            429 | 502 | 503 | 504 => Sent::Later {
                wait: retry_after(answer.headers()),
                cause: format!("the collector answered {status}"),
            },
            _ => Sent::Refused {
                cause: format!("the collector answered {status}"),
            },
        }
    }

    fn lost(&self, outcome: Outcome, spans: u64, cause: &str) {
        self.series.count(outcome, spans);
        if let Some(suppressed) = self.losses.due(Instant::now()) {
            tracing::warn!(spans, cause, suppressed, "spans are lost");
        }
    }
}

/// The net below: no key, token or address of a person leaves with a span, whoever put it there.
fn masked(span: &mut Span) {
    let events = span
        .events
        .iter_mut()
        .flat_map(|event| event.attributes.iter_mut());
    for attribute in span.attributes.iter_mut().chain(events) {
        if let Some(value) = &mut attribute.value {
            mask_value(value);
        }
    }
    mask_text(&mut span.name);
}

fn mask_value(value: &mut AnyValue) {
    match &mut value.value {
        Some(any_value::Value::StringValue(text)) => mask_text(text),
        Some(any_value::Value::ArrayValue(items)) => items.values.iter_mut().for_each(mask_value),
        _ => {}
    }
}

fn mask_text(text: &mut String) {
    if let std::borrow::Cow::Owned(masked) = mask(text) {
        *text = masked;
    }
}
