//! The layer of the log that makes reports.

use std::{cell::Cell, fmt, sync::Arc, time::SystemTime};

use serde_json::{Map, Value};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span::{Attributes, Id},
};
use tracing_subscriber::{Layer, filter::FilterFn, layer::Context, registry::LookupSpan};

use super::queue::{Queue, Report};
use crate::telemetry::canonical;

thread_local! {
    /// Whether this thread is the one that sends: its own errors would be reported without end.
    static IS_SENDER: Cell<bool> = const { Cell::new(false) };
}

/// Of the thread that calls it nothing is reported.
pub(super) fn leave_out_this_thread() {
    IS_SENDER.set(true);
}

/// Takes lines of level ERROR, and of the canonical lines of jobs those of dead ones.
pub struct ReportLayer {
    queue: Arc<Queue>,
}

/// Fields of a span, until it closes.
struct SpanFields(Map<String, Value>);

impl ReportLayer {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self { queue }
    }

    /// With its filter: what is no fault costs nothing.
    pub fn filtered<S>(self) -> impl Layer<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let filter = FilterFn::new(is_wanted).with_max_level_hint(LevelFilter::INFO);
        self.with_filter(filter)
    }
}

fn is_wanted(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() || *metadata.level() == Level::ERROR || metadata.target() == canonical::JOB
}

impl<S> Layer<S> for ReportLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = SpanFields(Map::new());
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if IS_SENDER.get() {
            return;
        }
        let metadata = event.metadata();
        let mut own = SpanFields(Map::new());
        event.record(&mut own);
        let mut fields = own.0;
        if let Some(added) = fields.remove(canonical::FIELD) {
            fields.extend(canonical_fields(&added));
        }
        let is_dead = fields.get("outcome").is_some_and(|it| it == "dead");
        if *metadata.level() != Level::ERROR && !is_dead {
            return;
        }
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(SpanFields(around)) = span.extensions().get() {
                for (name, value) in around {
                    fields.entry(name).or_insert_with(|| value.clone());
                }
            }
        }
        let message = fields.remove("message");
        self.queue.push(Report {
            message: message
                .and_then(|it| it.as_str().map(str::to_owned))
                .unwrap_or_default(),
            target: metadata.target(),
            file: metadata.file(),
            line: metadata.line(),
            at: SystemTime::now(),
            fields,
            user: canonical::user(),
            suppressed: 0,
        });
    }
}

fn canonical_fields(added: &Value) -> Map<String, Value> {
    let added = added.as_str().map(serde_json::from_str);
    added.and_then(Result::ok).unwrap_or_default()
}

impl Visit for SpanFields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0
            .insert(field.name().to_owned(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}
