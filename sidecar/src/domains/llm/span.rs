//! The span of a call. A call has one, whatever it tried: its attempts are events, so that no cost is counted twice.

use std::time::SystemTime;

use axum::http::HeaderMap;
use kijko_core::telemetry::traces::{
    Kind as SpanKind, Span, SpanId, TraceId, TraceParent, Tracer,
    span::{Attributes, Event, Value as SpanValue},
};
use serde_json::{Value, json};

use super::{
    failure::Failure,
    fields::list,
    record::{End, Ended},
    request::Request,
    store::{Kind, Spent, Target},
    upstreams::Upstreams,
};
use crate::llm::{Usage, semconv};

/// Where a call is in its trace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub trace: TraceId,
    parent: Option<SpanId>,
    start: SystemTime,
}

/// What attempts have left behind.
#[derive(Debug, Default)]
pub(super) struct Past {
    usage: Usage,
    is_estimated: bool,
    events: Vec<Event>,
}

impl Place {
    /// In the caller's trace; in one of its own if there is none.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let parent = headers.get("traceparent").and_then(|it| it.to_str().ok());
        let parent = parent.and_then(TraceParent::parse);
        Self {
            trace: parent.map_or_else(TraceId::random, |parent| parent.trace),
            parent: parent.map(|parent| parent.span),
            start: SystemTime::now(),
        }
    }
}

impl Past {
    /// An attempt has ended.
    pub(super) fn add(&mut self, spent: Spent) {
        match spent {
            Spent::Unsent | Spent::Nothing => {}
            Spent::Unknown => self.is_estimated = true,
            Spent::Counted { usage, estimated } => {
                self.usage = sum(&self.usage, &usage);
                self.is_estimated |= estimated;
            }
        }
    }

    /// What became of an attempt.
    pub(super) fn note(&mut self, target: &Target, outcome: &str) {
        let mut attributes = Attributes::default();
        attributes.set(semconv::PROVIDER, target.provider.as_str());
        attributes.set(semconv::REQUEST_MODEL, target.model.as_str());
        attributes.set(semconv::OUTCOME, outcome);
        let event = Event::new(semconv::ATTEMPT_EVENT, SystemTime::now(), attributes);
        self.events.push(event);
    }
}

fn sum(one: &Usage, other: &Usage) -> Usage {
    Usage {
        input: one.input + other.input,
        output: one.output + other.output,
        cache_read: one.cache_read + other.cache_read,
        cache_write: one.cache_write + other.cache_write,
        cache_write_1h: one.cache_write_1h + other.cache_write_1h,
        reasoning: one.reasoning + other.reasoning,
    }
}

/// The span of a call that has ended.
pub(super) fn of_call(
    ended: &Ended<'_>,
    end: &End,
    place: Place,
    mut past: Past,
    tracer: &Tracer,
    upstreams: &Upstreams,
) -> Span {
    let mut attributes = Attributes::default();
    let operation = match ended.request {
        Request::Chat(_) => semconv::CHAT,
        Request::Embeddings(_) => semconv::EMBEDDINGS,
        Request::Images(_) => semconv::GENERATE_CONTENT,
    };
    attributes.set(semconv::OPERATION_NAME, operation);
    let targets = &ended.opened.targets;
    let target = targets.iter().find(|target| target.index == ended.target);
    let model = target.map_or(ended.request.model(), |target| target.model.as_str());
    if let Some(target) = target {
        of_target(&mut attributes, target, upstreams);
    }
    attributes.set(semconv::REQUEST_MODEL, model);
    attributes.set(semconv::CALLED_MODEL, ended.request.model());
    attributes.set(semconv::ATTEMPTS, ended.attempts);
    of_request(&mut attributes, ended.request);
    of_caller(&mut attributes, ended);
    past.add(ended.attempt.spent(ended.input_tokens()));
    of_answer(&mut attributes, ended, &past);
    if tracer.captures_content() && ended.opened.record_content {
        of_content(&mut attributes, ended);
    }
    let code = match end {
        End::Answered => None,
        End::Failed(error) => Some(error.code.as_str()),
        End::Cut(code) => Some(*code),
    };
    attributes.set_some(semconv::ERROR_TYPE, code);
    let ids = (place.trace, SpanId::random());
    let name = format!("{operation} {model}");
    let span = Span::new(name, SpanKind::Client, ids, place.parent, place.start);
    let span = span.with(attributes).with_events(past.events);
    match code {
        Some(code) => span.failed(code),
        None => span,
    }
}

fn of_target(attributes: &mut Attributes, target: &Target, upstreams: &Upstreams) {
    let provider = match target.kind {
        Kind::Anthropic => "anthropic",
        Kind::Gemini => "gemini",
        // The API of many.
        Kind::OpenAi | Kind::Echo => target.provider.as_str(),
    };
    attributes.set(semconv::PROVIDER_NAME, semconv::provider_name(provider));
    attributes.set(semconv::PROVIDER, target.provider.as_str());
    attributes.set(semconv::OWN_KEY, target.own_key);
    if target.max_output_tokens > 0 {
        attributes.set(semconv::REQUEST_MAX_TOKENS, target.max_output_tokens);
    }
    if let Some(url) = upstreams.address(target)
        && let Some(host) = url.host_str()
    {
        attributes.set(semconv::SERVER_ADDRESS, host);
        let port = url.port_or_known_default().map(u32::from);
        attributes.set_some(semconv::SERVER_PORT, port);
    }
}

fn of_request(attributes: &mut Attributes, request: &Request) {
    let chat = match request {
        Request::Chat(chat) => chat,
        Request::Embeddings(embeddings) => {
            let format = vec![embeddings.encoding_format().to_owned()];
            return attributes.set(semconv::REQUEST_ENCODING_FORMATS, format);
        }
        Request::Images(_) => return attributes.set(semconv::OUTPUT_TYPE, "image"),
    };
    attributes.set(semconv::REQUEST_STREAM, chat.stream);
    if chat.choices > 1 {
        attributes.set(semconv::REQUEST_CHOICE_COUNT, chat.choices);
    }
    for (field, name) in [
        ("temperature", semconv::REQUEST_TEMPERATURE),
        ("top_p", semconv::REQUEST_TOP_P),
        ("frequency_penalty", semconv::REQUEST_FREQUENCY_PENALTY),
        ("presence_penalty", semconv::REQUEST_PRESENCE_PENALTY),
    ] {
        attributes.set_some(name, chat.get(field).and_then(Value::as_f64));
    }
    attributes.set_some(
        semconv::REQUEST_SEED,
        chat.get("seed").and_then(Value::as_i64),
    );
    let stop = match chat.get("stop") {
        Some(Value::String(text)) => vec![text.clone()],
        stop => list(stop)
            .iter()
            .filter_map(|it| Some(it.as_str()?.to_owned()))
            .collect(),
    };
    if !stop.is_empty() {
        attributes.set(semconv::REQUEST_STOP_SEQUENCES, stop);
    }
    let format = chat
        .get("response_format")
        .and_then(|format| format["type"].as_str());
    let output = if matches!(format, Some("json_object" | "json_schema")) {
        "json"
    } else {
        "text"
    };
    attributes.set(semconv::OUTPUT_TYPE, output);
}

fn of_caller(attributes: &mut Attributes, ended: &Ended<'_>) {
    attributes.set(semconv::ORG_ID, ended.opened.org_id.to_string());
    attributes.set(semconv::CALL_ID, ended.opened.call_id.to_string());
    for (attribute, name) in [
        ("member", semconv::USER_ID),
        ("key", semconv::KEY_ID),
        ("project", semconv::PROJECT_ID),
        ("skill", semconv::SKILL_ID),
    ] {
        let value = ended
            .opened
            .attributes
            .get(attribute)
            .and_then(Value::as_str);
        attributes.set_some(name, value);
    }
}

fn of_answer(attributes: &mut Attributes, ended: &Ended<'_>, past: &Past) {
    let reader = &ended.attempt.reader;
    semconv::usage(attributes, &past.usage);
    attributes.set(semconv::ESTIMATED, past.is_estimated);
    attributes.set_some(semconv::RESPONSE_MODEL, reader.model.as_deref());
    let reasons = reader.tally.finish_reasons();
    if !reasons.is_empty() {
        attributes.set(semconv::RESPONSE_FINISH_REASONS, reasons);
    }
    if let Request::Chat(chat) = ended.request {
        let id = format!("chatcmpl-{}", ended.opened.call_id.simple());
        attributes.set(semconv::RESPONSE_ID, id);
        if chat.stream {
            let first = ended.first_token.map(|first| first.as_secs_f64());
            attributes.set_some(semconv::RESPONSE_TIME_TO_FIRST_CHUNK, first);
        }
    }
}

/// Both the operator and the organization want it. Pictures and files are named and not sent.
fn of_content(attributes: &mut Attributes, ended: &Ended<'_>) {
    let Request::Chat(chat) = ended.request else {
        return;
    };
    let input: Vec<_> = chat.messages().iter().map(message).collect();
    attributes.set(
        semconv::INPUT_MESSAGES,
        SpanValue::Content(json!(input).to_string()),
    );
    let answer = ended.answer();
    let output = list(Some(&answer)).iter().map(|choice| {
        let mut message = message(&choice["message"]);
        message["finish_reason"] = choice["finish_reason"].clone();
        message
    });
    let output: Vec<_> = output.collect();
    if !output.is_empty() {
        attributes.set(
            semconv::OUTPUT_MESSAGES,
            SpanValue::Content(json!(output).to_string()),
        );
    }
}

/// A message in the shape of the conventions: a role and parts.
fn message(message: &Value) -> Value {
    let text = |text: &str| json!({"type": "text", "content": text});
    let mut parts: Vec<_> = match &message["content"] {
        Value::String(content) => vec![text(content)],
        content => list(Some(content))
            .iter()
            .map(|part| match part["text"].as_str() {
                Some(content) => text(content),
                None => json!({"type": part["type"]}),
            })
            .collect(),
    };
    if message["role"] == "tool" {
        let response = std::mem::take(&mut parts);
        parts.push(json!({"type": "tool_call_response", "id": message["tool_call_id"], "response": response}));
    }
    for call in list(message.get("tool_calls")) {
        let function = &call["function"];
        parts.push(json!({
            "type": "tool_call", "id": call["id"], "name": function["name"], "arguments": function["arguments"],
        }));
    }
    json!({"role": message["role"], "parts": parts})
}

/// The short name of what became of an attempt, in events and metrics.
pub(super) fn outcome(outcome: &Result<(), Failure>) -> &'static str {
    match outcome {
        Ok(()) => "answered",
        Err(Failure::Vendor(error)) => error.code(),
        Err(Failure::Unfit(_)) => "unfit",
        Err(Failure::Busy) => "busy",
        Err(Failure::ClientGone) => "client_gone",
    }
}
