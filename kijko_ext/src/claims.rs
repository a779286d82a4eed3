//! The request's claims, or nobody's. Everything that is not an object of claims, set in a trusted session, counts as
//! no claims at all: never an error that leaks, never "allowed".

use std::cell::RefCell;

use pgrx::JsonB;
use pgrx::prelude::*;
use serde_json::{Map, Value};

use crate::session;

/// A text and the claims in it.
type Parsed = (Vec<u8>, Option<Map<String, Value>>);

thread_local! {
    static PARSED: RefCell<Parsed> = RefCell::default();
}

/// The claims PostgREST verified, or null.
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

/// Runs `body` on the claims of this transaction, if there are any and its session is trusted. A request asks many times:
/// what was parsed is kept until the text changes. `body` must not ask Postgres anything.
pub fn with<T>(body: impl FnOnce(&Map<String, Value>) -> Option<T>) -> Option<T> {
    PARSED.with_borrow_mut(|(known, claims)| {
        session::with_setting(c"request.jwt.claims", |text| {
            if known != text {
                *claims = parse(&String::from_utf8_lossy(text));
                *known = text.to_vec();
            }
        })?;
        let claims = claims.as_ref()?;
        session::is_trusted().then(|| body(claims))?
    })
}

/// An object of claims, or nothing.
pub fn parse(text: &str) -> Option<Map<String, Value>> {
    match serde_json::from_str(text) {
        Ok(value) if storable(&value) => match value {
            Value::Object(claims) => Some(claims),
            _ => None,
        },
        _ => None,
    }
}

/// Whether jsonb can hold it: it has no NUL character, and would raise an error.
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

#[cfg(test)]
mod unit {
    use super::parse;

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
}
