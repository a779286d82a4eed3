//! Messages of a body: one, or a batch with members for all of them. What Postgres cannot store is replaced here, so that one text or
//! number does not lose the other messages of its batch.

use std::{borrow::Cow, io::Read};

use flate2::read::MultiGzDecoder;
use kijko_core::db::storable;
use serde_json::{Map, Value, json};

/// A number with more digits, or an exponent beyond this, is none that anybody measures; jsonb fails for some of them.
const MAX_NUMBER_LENGTH: usize = 100;
const MAX_EXPONENT: u32 = 300;

/// Of a batch, as track() has it.
const MAX_MESSAGES: usize = 2_500;

/// Of what a batch says for all, once each message has it: its sender is not known yet, so memory is not theirs to take.
const MAX_SHARED: usize = 16 << 20;
const MAX_TIME_LENGTH: usize = 40;

/// Which messages a method takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Batch,
    /// A single message of this type.
    One(&'static str),
}

#[derive(Debug, PartialEq)]
pub(super) enum Fault {
    TooLarge,
    Malformed(String),
}

#[derive(Debug)]
pub(super) struct Messages {
    pub write_key: Option<String>,
    pub events: Vec<Value>,
}

impl Kind {
    /// By its name, or the letter that browsers send.
    pub fn of_method(method: &str) -> Option<Self> {
        Some(match method {
            "track" | "t" => Self::One("track"),
            "identify" | "i" => Self::One("identify"),
            "page" | "p" => Self::One("page"),
            "screen" | "s" => Self::One("screen"),
            "group" | "g" => Self::One("group"),
            "alias" | "a" => Self::One("alias"),
            "batch" | "b" | "import" => Self::Batch,
            _ => return None,
        })
    }
}

pub(super) fn read(
    kind: Kind,
    body: &[u8],
    is_gzip: bool,
    max_bytes: usize,
) -> Result<Messages, Fault> {
    let bytes = if is_gzip {
        Cow::Owned(unpack(body, max_bytes)?)
    } else {
        Cow::Borrowed(body)
    };
    let text = std::str::from_utf8(&bytes).map_err(malformed)?;
    let sent: Value = serde_json::from_str(&storable(text)).map_err(malformed)?;
    let Value::Object(mut sent) = sent else {
        return Err(malformed("an object is expected"));
    };
    let write_key = match sent.remove("writeKey") {
        Some(Value::String(key)) => Some(key),
        _ => None,
    };
    let (write_key, mut events) = match kind {
        Kind::One(name) => {
            sent.insert("type".to_owned(), json!(name));
            (write_key, vec![Value::Object(sent)])
        }
        Kind::Batch => {
            let Some(Value::Array(mut events)) = sent.remove("batch") else {
                return Err(malformed("batch: an array of messages"));
            };
            if events.len() > MAX_MESSAGES {
                return Err(malformed(format!("batch: at most {MAX_MESSAGES} messages")));
            }
            if sent.get("context").map_or(0, weight) * events.len() > MAX_SHARED {
                return Err(malformed(
                    "context: too large for each message of the batch",
                ));
            }
            for event in &mut events {
                complete(event, &sent);
            }
            // A browser's messages have a key each.
            let of_first = || Some(events.first()?.get("writeKey")?.as_str()?.to_owned());
            (write_key.or_else(of_first), events)
        }
    };
    for event in &mut events {
        if let Value::Object(event) = event {
            event.remove("writeKey");
        }
        replace_numbers(event);
    }
    Ok(Messages { write_key, events })
}

/// Gives a message of a batch what the batch says for all.
fn complete(event: &mut Value, batch: &Map<String, Value>) {
    let Value::Object(event) = event else { return };
    if let Some(Value::Object(shared)) = batch.get("context") {
        let own = event
            .entry("context")
            .or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(own) = own {
            for (name, value) in shared {
                own.entry(name).or_insert_with(|| value.clone());
            }
        }
    }
    if let Some(Value::String(at)) = batch.get("sentAt")
        && at.len() <= MAX_TIME_LENGTH
    {
        event.entry("sentAt").or_insert_with(|| json!(at));
    }
}

/// About the memory that a copy takes.
fn weight(value: &Value) -> usize {
    let content = match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(weight).sum(),
        Value::Object(members) => members.iter().map(|(k, v)| k.len() + weight(v)).sum(),
        Value::Null | Value::Bool(_) => 0,
        Value::Number(number) => number.to_string().len(),
    };
    64 + content
}

fn unpack(body: &[u8], max_bytes: usize) -> Result<Vec<u8>, Fault> {
    let mut unpacked = Vec::new();
    let limit = max_bytes as u64 + 1;
    MultiGzDecoder::new(body)
        .take(limit)
        .read_to_end(&mut unpacked)
        .map_err(malformed)?;
    if unpacked.len() > max_bytes {
        return Err(Fault::TooLarge);
    }
    Ok(unpacked)
}

fn replace_numbers(value: &mut Value) {
    match value {
        Value::Number(number) if !is_storable(&number.to_string()) => *value = Value::Null,
        Value::Array(values) => values.iter_mut().for_each(replace_numbers),
        Value::Object(members) => members.values_mut().for_each(replace_numbers),
        _ => {}
    }
}

fn is_storable(number: &str) -> bool {
    let exponent = number.split_once(['e', 'E']).map(|(_, exponent)| exponent);
    let fits = |exponent: &str| {
        let digits = exponent.trim_start_matches(['+', '-']);
        digits.parse().is_ok_and(|it: u32| it <= MAX_EXPONENT)
    };
    number.len() <= MAX_NUMBER_LENGTH && exponent.is_none_or(fits)
}

fn malformed(reason: impl ToString) -> Fault {
    Fault::Malformed(format!("the body: {}", reason.to_string()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn events(kind: Kind, body: &str) -> Result<Vec<Value>, Fault> {
        read(kind, body.as_bytes(), false, 10_000).map(|messages| messages.events)
    }

    fn packed(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_method_says_the_type_of_its_message() {
        let body = r#"{"type": "alias", "event": "A", "writeKey": "k"}"#;
        let read = read(Kind::of_method("t").unwrap(), body.as_bytes(), false, 100).unwrap();
        assert_eq!(read.write_key.as_deref(), Some("k"));
        assert_eq!(read.events, [json!({"type": "track", "event": "A"})]);
        assert_eq!(Kind::of_method("batch"), Kind::of_method("b"));
        assert_eq!(Kind::of_method("delete"), None);
    }

    #[test]
    fn messages_get_what_their_batch_says() {
        let body = r#"{"batch": [{"event": "A", "context": {"ip": "1"}}, {"sentAt": "y", "writeKey": "k"}, 7],
            "context": {"ip": "2", "locale": "nl"}, "sentAt": "x"}"#;
        assert_eq!(
            events(Kind::Batch, body).unwrap(),
            [
                json!({"event": "A", "context": {"ip": "1", "locale": "nl"}, "sentAt": "x"}),
                json!({"sentAt": "y", "context": {"ip": "2", "locale": "nl"}}),
                json!(7)
            ]
        );
    }

    #[test]
    fn a_batch_is_bounded_before_its_messages_get_what_it_says() {
        let batch = |messages: usize, shared: &str| {
            let messages = vec!["{}"; messages].join(",");
            let body = format!(r#"{{"batch": [{messages}], {shared}}}"#);
            read(Kind::Batch, body.as_bytes(), false, 0).map(|it| it.events)
        };
        assert!(batch(2_500, r#""context": {"locale": "nl"}"#).is_ok());
        assert!(matches!(
            batch(2_501, r#""a": 1"#),
            Err(Fault::Malformed(_))
        ));
        let large = format!(r#""context": {{"a": "{}"}}"#, "x".repeat(10_000));
        let many = format!(r#""context": {{"a": [{}0]}}"#, "0,".repeat(200));
        for shared in [large, many] {
            assert!(batch(100, &shared).is_ok());
            assert!(matches!(batch(2_000, &shared), Err(Fault::Malformed(_))));
        }
        for sent_at in [r#"{"a": 1}"#.to_owned(), format!(r#""{}""#, "x".repeat(41))] {
            let read = batch(1, &format!(r#""sentAt": {sent_at}"#)).unwrap();
            assert_eq!(read, [json!({})]);
        }
    }

    #[test]
    fn what_cannot_be_stored_is_replaced() {
        let body = r#"{"batch": [{"a": "x\u0000\ud83d", "b": [1e999999, 1.5, 1e20, -0.1]}]}"#;
        let read = events(Kind::Batch, body).unwrap();
        assert_eq!(read[0]["a"], "x\u{fffd}\u{fffd}");
        assert_eq!(read[0]["b"].to_string(), "[null,1.5,1e+20,-0.1]");
        let digits = format!(r#"{{"a": {}}}"#, "9".repeat(200));
        assert!(events(Kind::One("page"), &digits).unwrap()[0]["a"].is_null());
    }

    #[test]
    fn a_body_that_is_no_message_is_malformed() {
        for body in ["", "[]", "7", r#"{"batch": {}}"#, "{}", r#"{"batch": ["#] {
            assert!(
                matches!(events(Kind::Batch, body), Err(Fault::Malformed(_))),
                "{body}"
            );
        }
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert!(events(Kind::One("track"), &format!(r#"{{"a": {deep}}}"#)).is_err());
    }

    #[test]
    fn a_packed_body_is_unpacked_up_to_its_limit() {
        let gzip = |body: &[u8]| read(Kind::One("track"), body, true, 10_000);
        assert_eq!(
            gzip(&packed(br#"{"event": "A"}"#)).unwrap().events[0]["event"],
            "A"
        );
        assert_eq!(gzip(&packed(&[b' '; 10_001])).unwrap_err(), Fault::TooLarge);
        assert!(matches!(gzip(b"{}"), Err(Fault::Malformed(_))));
    }
}
