//! A span that has ended. It can only be made whole: with its ids, both times in order, and attributes that have a name and a value.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, KeyValue, any_value},
    trace::v1::{self as proto, status::StatusCode},
};

use super::context::{SpanId, TraceId};

/// A longer text is cut. Contents have a bound of their own.
const MAX_TEXT: usize = 4 << 10;
/// Contents that are larger are left out: a part of a JSON document is none.
const MAX_CONTENT: usize = 64 << 10;
const MAX_ITEMS: usize = 64;
/// More is none of ours.
const MAX_EVENTS: usize = 64;

/// What the span stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Work of this process.
    Internal,
    /// A call of another one.
    Client,
    /// A request that this process answers.
    Server,
}

/// A span.
#[derive(Debug, Clone)]
pub struct Span(proto::Span);

/// An event within a span.
#[derive(Debug, Clone)]
pub struct Event {
    name: String,
    at: SystemTime,
    attributes: Attributes,
}

/// Names and values. Those without a value are left out, and a name occurs once.
#[derive(Debug, Clone, Default)]
pub struct Attributes(Vec<KeyValue>);

/// A value of an attribute.
pub enum Value {
    /// A text.
    Text(String),
    /// Texts.
    Texts(Vec<String>),
    /// A whole number.
    Int(i64),
    /// A number; what is not finite is left out.
    Double(f64),
    /// Yes or no.
    Bool(bool),
    /// A JSON document, whole or not at all.
    Content(String),
}

impl Attributes {
    /// Adds one.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        let Some(value) = value.into().into_proto() else {
            return;
        };
        self.0.retain(|known| known.key != name);
        self.0.push(KeyValue {
            key: name.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        });
    }

    /// Adds one if there is one.
    pub fn set_some(&mut self, name: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }
}

impl Value {
    fn into_proto(self) -> Option<any_value::Value> {
        Some(match self {
            Self::Text(text) => any_value::Value::StringValue(bounded(text)),
            Self::Texts(texts) => {
                let texts = texts.into_iter().take(MAX_ITEMS).map(|text| AnyValue {
                    value: Some(any_value::Value::StringValue(bounded(text))),
                });
                any_value::Value::ArrayValue(ArrayValue {
                    values: texts.collect(),
                })
            }
            Self::Int(number) => any_value::Value::IntValue(number),
            Self::Double(number) if number.is_finite() => any_value::Value::DoubleValue(number),
            Self::Bool(flag) => any_value::Value::BoolValue(flag),
            Self::Content(text) if text.len() <= MAX_CONTENT => any_value::Value::StringValue(text),
            Self::Double(_) | Self::Content(_) => return None,
        })
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<String>> for Value {
    fn from(texts: Vec<String>) -> Self {
        Self::Texts(texts)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Int(number.into())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Double(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

/// Some databases of collectors take no NUL.
fn bounded(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
    }
    match text.contains('\0') {
        true => text.replace('\0', "\u{fffd}"),
        false => text,
    }
}

impl Event {
    /// An event of this name and time.
    pub fn new(name: &'static str, at: SystemTime, attributes: Attributes) -> Self {
        Self {
            name: name.to_owned(),
            at,
            attributes,
        }
    }
}

impl Span {
    /// A span from `start` until now, or until `start` if the clock was set back. `parent` is none for the first span of a trace.
    pub fn new(
        name: String,
        kind: Kind,
        (trace, id): (TraceId, SpanId),
        parent: Option<SpanId>,
        start: SystemTime,
    ) -> Self {
        let start = nanos(start).max(1);
        Self(proto::Span {
            trace_id: trace.bytes().to_vec(),
            span_id: id.bytes().to_vec(),
            parent_span_id: parent.map_or_else(Vec::new, |parent| parent.bytes().to_vec()),
            name: if name.is_empty() {
                "span".to_owned()
            } else {
                bounded(name)
            },
            kind: match kind {
                Kind::Internal => proto::span::SpanKind::Internal,
                Kind::Client => proto::span::SpanKind::Client,
                Kind::Server => proto::span::SpanKind::Server,
            }
            .into(),
            start_time_unix_nano: start,
            end_time_unix_nano: nanos(SystemTime::now()).max(start),
            // Sampled.
            flags: 1,
            ..proto::Span::default()
        })
    }

    /// One that ended at another time than now.
    pub fn until(mut self, end: SystemTime) -> Self {
        self.0.end_time_unix_nano = nanos(end).max(self.0.start_time_unix_nano);
        self
    }

    /// With these attributes.
    pub fn with(mut self, attributes: Attributes) -> Self {
        self.0.attributes = attributes.0;
        self
    }

    /// With these events.
    pub fn with_events(mut self, events: Vec<Event>) -> Self {
        let dropped = events.len().saturating_sub(MAX_EVENTS);
        self.0.dropped_events_count = u32::try_from(dropped).unwrap_or(u32::MAX);
        let events = events
            .into_iter()
            .take(MAX_EVENTS)
            .map(|event| proto::span::Event {
                time_unix_nano: nanos(event.at),
                name: event.name,
                attributes: event.attributes.0,
                dropped_attributes_count: 0,
            });
        self.0.events = events.collect();
        self
    }

    /// Changes its attributes: something became known after its end.
    pub fn change(&mut self, change: impl FnOnce(&mut Attributes)) {
        let mut attributes = Attributes(std::mem::take(&mut self.0.attributes));
        change(&mut attributes);
        self.0.attributes = attributes.0;
    }

    /// As failed; `code` is a short name and no message, which could quote a prompt.
    pub fn failed(mut self, code: &str) -> Self {
        self.0.status = Some(proto::Status {
            code: StatusCode::Error.into(),
            message: bounded(code.to_owned()),
        });
        self
    }

    pub(super) fn into_proto(self) -> proto::Span {
        self.0
    }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn span(start: SystemTime) -> Span {
        Span::new(
            "chat m".to_owned(),
            Kind::Client,
            (TraceId::random(), SpanId::random()),
            None,
            start,
        )
    }

    #[test]
    fn a_span_ends_after_it_has_begun_whatever_the_clock_says() {
        for start in [
            SystemTime::now() + Duration::from_secs(60),
            UNIX_EPOCH,
            UNIX_EPOCH - Duration::from_secs(1),
        ] {
            let span = span(start).into_proto();
            assert!(span.start_time_unix_nano > 0);
            assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
        }
    }

    #[test]
    fn attributes_have_a_value_and_their_name_once() {
        let mut attributes = Attributes::default();
        attributes.set("a", 1_u64);
        attributes.set("a", "é".repeat(MAX_TEXT));
        attributes.set("nan", f64::NAN);
        attributes.set("large", Value::Content("x".repeat(MAX_CONTENT + 1)));
        attributes.set_some("none", None::<u64>);
        attributes.set("max", u64::MAX);
        attributes.set("nul", "a\0b");
        let span = span(SystemTime::now()).with(attributes).into_proto();
        let names: Vec<_> = span.attributes.iter().map(|it| it.key.as_str()).collect();
        assert_eq!(names, ["a", "max", "nul"]);
        let text = |place: usize| match span.attributes[place].value.clone().unwrap().value.unwrap()
        {
            any_value::Value::StringValue(text) => text,
            other => format!("{other:?}"),
        };
        assert_eq!(text(0), "é".repeat(MAX_TEXT / 2));
        assert_eq!(
            (text(1).as_str(), text(2).as_str()),
            ("IntValue(9223372036854775807)", "a\u{fffd}b")
        );
    }

    #[test]
    fn a_failed_span_says_its_code_only() {
        let span = span(SystemTime::now())
            .failed("vendor_timeout")
            .into_proto();
        let status = span.status.unwrap();
        assert_eq!(
            (status.code, status.message.as_str()),
            (2, "vendor_timeout")
        );
    }
}
