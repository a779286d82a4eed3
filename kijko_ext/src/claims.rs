//! The claims of the request's token. Anything but an object of claims that was set in a trusted session counts as no claims,
//! and is never an error.

use std::cell::RefCell;

use pgrx::JsonB;
use pgrx::prelude::*;
use serde_json::{Map, Value};

use crate::pg::setting;
use crate::trust;

/// A text and its parsed claims.
type Parsed = (Vec<u8>, Option<Map<String, Value>>);

thread_local! {
    static PARSED: RefCell<Parsed> = RefCell::default();
}

/// The claims that PostgREST verified, or null.
#[pg_extern(stable, parallel_safe)]
fn claims() -> Option<JsonB> {
    with(|claims| Some(JsonB(Value::Object(claims.clone()))))
}

/// One claim as text, as `->>` would answer it.
#[pg_extern(stable, parallel_safe)]
pub fn claim(name: &str) -> Option<String> {
    with(|claims| match claims.get(name)? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    })
}

/// Runs `body` on the claims of this transaction, if it has any and its session is trusted. A request needs them many times,
/// so the parsed claims are cached until the text changes. `body` must not ask for
/// the claims again: they are borrowed meanwhile.
pub fn with<T>(body: impl FnOnce(&Map<String, Value>) -> Option<T>) -> Option<T> {
    PARSED.with_borrow_mut(|(known, claims)| {
        setting::CLAIMS.with(|text| {
            if known != text {
                *claims = parse(&String::from_utf8_lossy(text));
                *known = text.to_vec();
            }
        })?;
        let claims = claims.as_ref()?;
        trust::is_trusted_session().then(|| body(claims))?
    })
}

/// Parses an object of claims. None for anything else.
pub fn parse(text: &str) -> Option<Map<String, Value>> {
    match serde_json::from_str(text) {
        Ok(value) if storable(&value) => match value {
            Value::Object(claims) => Some(claims),
            _ => None,
        },
        _ => None,
    }
}

/// Whether jsonb can hold the value. It has no NUL character and raises an error for one.
pub fn storable(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.contains('\0'),
        Value::Array(items) => items.iter().all(storable),
        Value::Object(fields) => fields
            .iter()
            .all(|(key, value)| !key.contains('\0') && storable(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}

/// A claim that is a uuid in its canonical form.
pub fn uuid_claim(claims: &Map<String, Value>, name: &str) -> Option<[u8; 16]> {
    parse_uuid(claims.get(name)?.as_str()?)
}

/// Parses a uuid in its canonical form (8-4-4-4-12 hexadecimal digits), which our issuers write.
pub fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let text = text.as_bytes();
    if text.len() != 36 {
        return None;
    }
    let mut bytes = [0; 16];
    let mut digits = 0;
    for (place, &byte) in text.iter().enumerate() {
        if matches!(place, 8 | 13 | 18 | 23) {
            if byte != b'-' {
                return None;
            }
            continue;
        }
        let digit = (byte as char).to_digit(16)? as u8;
        bytes[digits / 2] |= if digits % 2 == 0 { digit << 4 } else { digit };
        digits += 1;
    }
    Some(bytes)
}

#[cfg(test)]
mod unit {
    use super::{parse, parse_uuid};

    #[test]
    fn only_an_object_is_claims() {
        assert_eq!(parse(r#"{"sub":"x"}"#).unwrap()["sub"], "x");
        for text in [
            "",
            "null",
            "[]",
            "1",
            "\"x\"",
            "{",
            "{\"a\":}",
            "{\"a\":\"\\u0000\"}",
            "{\"\\u0000\":1}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":1e999}",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
        let deep = "[".repeat(100_000);
        assert!(parse(&format!("{{\"a\":{deep}")).is_none());
    }

    #[test]
    fn only_canonical_uuids() {
        assert_eq!(
            parse_uuid("00112233-4455-6677-8899-AABBccddeeff"),
            Some([
                0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd,
                0xee, 0xff
            ])
        );
        for text in [
            "",
            "00112233445566778899aabbccddeeff",
            "{00112233-4455-6677-8899-aabbccddeeff}",
            "0011223-34455-6677-8899-aabbccddeeff",
            "00112233-4455-6677-8899-aabbccddeefg",
            "00112233-4455-6677-8899-aabbccddee\u{e9}",
        ] {
            assert_eq!(parse_uuid(text), None, "{text}");
        }
    }
}
