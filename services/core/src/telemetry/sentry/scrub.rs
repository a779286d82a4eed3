//! What must not leave with a report. The log chooses its fields, and its lines are masked; a report goes to another company, so it has
//! less: no addresses of machines either, and no field that could hold a header or a body.

use std::{
    net::{IpAddr, SocketAddr},
    sync::LazyLock,
};

use regex::{Captures, Regex};
use serde_json::{Map, Value};

use crate::telemetry::mask::mask;

const MASK: &str = "***";
/// A longer text is cut.
const MAX_TEXT: usize = 2_000;
/// Values within values; deeper ones are left out.
const MAX_DEPTH: u8 = 4;
const MAX_ITEMS: usize = 50;

/// Parts of names whose values are masked, whatever they are.
const SECRET_NAMES: [&str; 14] = [
    "authorization",
    "body",
    "cookie",
    "credential",
    "forwarded",
    "header",
    "input",
    "output",
    "passw",
    "payload",
    "prompt_text",
    "secret",
    "signature",
    "token",
];

/// Whole words: a part of a path such as `std::fmt` could be an address of IPv6.
static WORDS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[0-9A-Za-z_:.]{2,60}").expect("the pattern is valid"));

/// The text without secrets and addresses.
pub(super) fn text(text: &str) -> String {
    let masked = mask(text);
    let masked = WORDS.replace_all(&masked, |found: &Captures<'_>| {
        let found = &found[0];
        match is_address(found.trim_end_matches(['.', ':'])) {
            true => MASK.to_owned(),
            false => found.to_owned(),
        }
    });
    let mut masked = masked.into_owned();
    // Last: a part of a secret would not be masked.
    if masked.len() > MAX_TEXT {
        masked.truncate(masked.floor_char_boundary(MAX_TEXT));
    }
    masked.replace('\0', "\u{fffd}")
}

fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok()
}

/// The fields without them.
pub(super) fn fields(fields: Map<String, Value>) -> Map<String, Value> {
    object(fields, 0)
}

fn object(fields: Map<String, Value>, depth: u8) -> Map<String, Value> {
    fields
        .into_iter()
        .take(MAX_ITEMS)
        .map(|(name, found)| {
            let is_secret = is_secret(&name) && !found.is_number();
            let scrubbed = match is_secret {
                true => MASK.into(),
                false => value(found, depth),
            };
            (text(&name), scrubbed)
        })
        .collect()
}

fn value(found: Value, depth: u8) -> Value {
    match found {
        Value::String(found) => text(&found).into(),
        Value::Array(_) | Value::Object(_) if depth == MAX_DEPTH => MASK.into(),
        Value::Array(items) => items
            .into_iter()
            .take(MAX_ITEMS)
            .map(|item| value(item, depth + 1))
            .collect(),
        Value::Object(fields) => object(fields, depth + 1).into(),
        other => other,
    }
}

/// Counts of tokens and bytes stay: they are numbers.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_and_addresses_are_masked_and_times_stay() {
        assert_eq!(
            text(
                "ada@example.com at 10.1.2.3:80, [2001:db8::1]:443 and ::1. said Bearer abcdefgh12345678"
            ),
            "*** at ***, [***]:443 and *** said ***"
        );
        let kept = "at 12:34:56 in src/a.rs:10:5, version 1.2.3, took 0.5 s, f00d, std::fmt";
        assert_eq!(text(kept), kept);
        let long = "é".repeat(3_000);
        assert_eq!(text(&long).len(), MAX_TEXT);
    }

    #[test]
    fn fields_that_could_hold_a_header_or_a_body_are_masked() {
        let Value::Object(given) = json!({
            "Authorization": "x", "response_body": {"a": "hidden"}, "x_forwarded_for": ["hidden"], "input_tokens": 12,
            "cause": "10.0.0.1", "deep": {"a": {"b": {"c": {"d": {"e": "hidden"}}}}, "list": ["::1", 1]},
            "many": vec![1; 500],
        }) else {
            unreachable!()
        };
        let scrubbed = Value::Object(fields(given));
        assert!(!scrubbed.to_string().contains("hidden"), "{scrubbed}");
        assert_eq!(scrubbed["Authorization"], "***");
        assert_eq!(scrubbed["response_body"], "***");
        assert_eq!(scrubbed["input_tokens"], 12);
        assert_eq!(scrubbed["deep"]["list"], json!(["***", 1]));
        assert_eq!(scrubbed["many"].as_array().unwrap().len(), MAX_ITEMS);
    }
}
