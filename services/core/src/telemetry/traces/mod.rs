//! Spans of OpenTelemetry, exported by OTLP over HTTP. Nothing is sent unless an endpoint is configured.
//!
//! 1. [`context`]: ids, and W3C's `traceparent`, by which a caller's trace is joined.
//! 2. [`span`]: a span that has ended, which cannot be malformed: a collector may refuse a whole batch for one.
//! 3. [`Tracer::record`] puts it into a bounded queue and returns: no collector delays who records.
//! 4. [`exporter`]: a task of its own sends batches, waits and tries again, and flushes at the end of the process.
//! 5. [`config`]: the settings, by OpenTelemetry's own names; [`metrics`]: what became of the spans.

pub mod config;
pub mod context;
mod exporter;
mod metrics;
mod queue;
pub mod span;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

pub use config::TracesConfig;
pub use context::{SpanId, TraceId, TraceParent};
use exporter::Exporter;
use metrics::SpanSeries;
use queue::Queue;
use span::Attributes;
pub use span::{Kind, Span};
use tokio::task::JoinHandle;

use super::metrics::Series;
use crate::{outbound::OutboundError, service::Service};

/// Takes spans that have ended. Clones share one queue.
#[derive(Clone, Default)]
pub struct Tracer {
    queue: Option<Arc<Queue>>,
    captures_content: bool,
    /// Of all traces, which share is kept.
    ratio: f64,
}

tokio::task_local! {
    /// Where this task is in its trace.
    static HERE: (Tracer, TraceParent);
}

/// Runs `work` as a part of a span, to which [`record_child`] belongs.
pub async fn within<F: Future>(tracer: Tracer, place: TraceParent, work: F) -> F::Output {
    HERE.scope((tracer, place), work).await
}

/// Records a call of another process within the span that this task works on. Outside of one it does nothing.
pub fn record_child(name: String, start: SystemTime, attributes: Attributes, failed: Option<&str>) {
    let _ = HERE.try_with(|(tracer, here)| {
        let ids = (here.trace, SpanId::random());
        let span = Span::new(name, Kind::Client, ids, Some(here.span), start).with(attributes);
        tracer.record(match failed {
            Some(code) => span.failed(code),
            None => span,
        });
    });
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracer")
            .field("is_on", &self.is_on())
            .finish()
    }
}

impl Tracer {
    /// One that sends nothing.
    pub fn off() -> Self {
        Self::default()
    }

    /// Whether spans are exported. Who makes them can save the work otherwise.
    pub fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// Whether the requests of a trace have spans: all parts decide alike.
    pub fn keeps(&self, trace: TraceId) -> bool {
        let [.., a, b, c, d] = trace.bytes();
        self.is_on() && f64::from(u32::from_be_bytes([a, b, c, d])) < self.ratio * 4_294_967_296.0
    }

    /// Whether the operator wants prompts and answers in spans.
    pub fn captures_content(&self) -> bool {
        self.captures_content
    }

    /// Hands a span over. It never waits: a span that finds no room is dropped and counted.
    pub fn record(&self, span: Span) {
        if let Some(queue) = &self.queue {
            queue.push(span.into_proto());
        }
    }
}

/// The exporter of a service.
pub struct Traces {
    /// For the domains.
    pub tracer: Tracer,
    series: Arc<SpanSeries>,
    exporter: Option<Exporter>,
}

/// The exporter while it runs.
pub struct Exporting {
    queue: Arc<Queue>,
    task: JoinHandle<()>,
}

impl Traces {
    /// Nothing runs yet. Without a configuration there are the series only.
    pub fn new(service: Service, config: Option<&TracesConfig>) -> Result<Self, OutboundError> {
        let series = Arc::new(SpanSeries::default());
        let Some(config) = config else {
            return Ok(Self {
                tracer: Tracer::off(),
                series,
                exporter: None,
            });
        };
        let queue = Arc::new(Queue::new(series.clone()));
        let exporter = Exporter::new(service, config, queue.clone(), series.clone())?;
        let tracer = Tracer {
            queue: Some(queue),
            captures_content: config.captures_content,
            ratio: config.ratio,
        };
        Ok(Self {
            tracer,
            series,
            exporter: Some(exporter),
        })
    }

    /// What operators see of it.
    pub fn series(&self) -> Arc<dyn Series> {
        self.series.clone()
    }

    /// Begins to export. None: nothing is configured.
    pub fn start(self) -> Option<Exporting> {
        let exporter = self.exporter?;
        let queue = exporter.queue();
        let task = tokio::spawn(exporter.run());
        Some(Exporting { queue, task })
    }
}

impl Exporting {
    /// Sends what waits, in this time at most. Whatever is recorded later is dropped.
    pub async fn finish(mut self, time: Duration) {
        self.queue.close();
        if tokio::time::timeout(time, &mut self.task).await.is_err() {
            self.task.abort();
            tracing::warn!(
                spans = self.queue.len(),
                "spans are lost: the collector is too slow"
            );
        }
    }
}
