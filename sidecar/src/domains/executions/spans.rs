//! Spans of executions: one for each attempt, and within it one for its call of a model. The trace of an execution has its id, so that
//! its attempts are together, and so has its call in `llm_calls`.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

use kijko_core::{
    jobs::Job,
    telemetry::traces::{Kind, Span, SpanId, TraceId, Tracer, span::Attributes},
};
use uuid::Uuid;

use super::open_call::{Attempt, CallEnd, OPEN_CALL_TTL, attempt};
use crate::llm::semconv;

/// Records them.
pub(super) struct Spans {
    tracer: Tracer,
    /// Attempts that run. One that loses its lease has no end, and is forgotten.
    begun: Mutex<HashMap<Attempt, Begun>>,
}

struct Begun {
    execution: Uuid,
    start: SystemTime,
    since: Instant,
}

impl Spans {
    pub(super) fn new(tracer: Tracer) -> Self {
        Self {
            tracer,
            begun: Mutex::default(),
        }
    }

    /// An attempt begins.
    pub(super) fn begin(&self, job: &Job, execution: Uuid) {
        if !self.tracer.is_on() {
            return;
        }
        let since = Instant::now();
        let begun = Begun {
            execution,
            start: SystemTime::now(),
            since,
        };
        let mut all = self.lock();
        all.retain(|_, begun| since.duration_since(begun.since) < OPEN_CALL_TTL);
        all.insert(attempt(job), begun);
    }

    /// It has ended, and that is recorded. `code` says why it failed.
    pub(super) fn end(&self, job: &Job, call: Option<CallEnd>, code: Option<&str>) {
        let Some(begun) = self.lock().remove(&attempt(job)) else {
            return;
        };
        let (trace, id) = (TraceId::of(begun.execution), SpanId::random());
        let mut attributes = common(job, &begun, semconv::INVOKE_AGENT);
        let model = call.as_ref().map(|call| call.model.as_str());
        attributes.set_some(semconv::REQUEST_MODEL, model);
        let name = semconv::INVOKE_AGENT.to_owned();
        self.record(
            Span::new(name, Kind::Internal, (trace, id), None, begun.start),
            attributes,
            code,
        );
        if let Some(call) = call {
            let name = format!("{} {}", semconv::CHAT, call.model);
            let ids = (trace, SpanId::random());
            let span = Span::new(name, Kind::Client, ids, Some(id), call.start);
            let mut attributes = common(job, &begun, semconv::CHAT);
            call.set(&mut attributes);
            self.record(span, attributes, code);
        }
    }

    fn record(&self, span: Span, mut attributes: Attributes, code: Option<&str>) {
        attributes.set_some(semconv::ERROR_TYPE, code);
        let span = span.with(attributes);
        self.tracer.record(match code {
            Some(code) => span.failed(code),
            None => span,
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Attempt, Begun>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn common(job: &Job, begun: &Begun, operation: &'static str) -> Attributes {
    let mut attributes = Attributes::default();
    attributes.set(semconv::OPERATION_NAME, operation);
    attributes.set(semconv::ORG_ID, job.org_id.to_string());
    attributes.set(semconv::EXECUTION_ID, begun.execution.to_string());
    attributes.set(semconv::JOB_ATTEMPT, i64::from(job.attempt));
    attributes
}

impl CallEnd {
    fn set(&self, attributes: &mut Attributes) {
        attributes.set(
            semconv::PROVIDER_NAME,
            semconv::provider_name(self.provider),
        );
        attributes.set(semconv::PROVIDER, self.provider);
        attributes.set(semconv::CALL_ID, self.id.to_string());
        attributes.set(semconv::REQUEST_MODEL, self.model.as_str());
        attributes.set(semconv::REQUEST_MAX_TOKENS, self.max_output_tokens);
        attributes.set_some(semconv::RESPONSE_MODEL, self.state.model.as_deref());
        let first = self.state.first_token.map(|first| first.as_secs_f64());
        attributes.set_some(semconv::RESPONSE_TIME_TO_FIRST_CHUNK, first);
        attributes.set(semconv::ESTIMATED, self.usage != self.state.usage);
        semconv::usage(attributes, &self.usage);
    }
}
