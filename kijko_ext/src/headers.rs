//! Headers of the request and of the response. PostgREST keeps them in the settings request.headers and response.headers.
//! Every request reads them several times, so the parsed headers are cached until the text changes.

use std::cell::RefCell;

use pgrx::prelude::*;
use serde_json::{Map, Value};

use crate::pg::setting;
use crate::pg::sql_function::{Answer, Arguments, Refusal, sql_function};

sql_function!(kijko_add_header, pg_finfo_kijko_add_header, add_header);

#[derive(Default)]
struct Request {
    text: Vec<u8>,
    headers: Map<String, Value>,
    malformed: bool,
}

thread_local! {
    static REQUEST: RefCell<Request> = RefCell::default();
}

/// U+FFFD, in UTF-8.
const REPLACEMENT_CHARACTER: [u8; 3] = [0xef, 0xbf, 0xbd];

#[pg_extern(stable, parallel_safe)]
pub fn request_header(name: &str) -> Option<String> {
    of_request(&name.to_lowercase(), str::to_owned)
}

/// Runs `body` on a header of the request, named in lower case. None outside PostgREST, and when it was not sent.
pub fn of_request<T>(name: &str, body: impl FnOnce(&str) -> T) -> Option<T> {
    with_request(|request| match request.headers.get(name)? {
        Value::Null => None,
        Value::String(value) => Some(body(value)),
        other => Some(body(&other.to_string())),
    })?
}

/// Takes a header, named in lower case, from the request for the rest of the transaction.
pub fn remove_of_request(name: &str) {
    let text = REQUEST.with_borrow_mut(|request| {
        let value = request.headers.remove(name)?;
        let text = std::str::from_utf8(&request.text)
            .ok()
            .and_then(|text| without_member(text, name, value.as_str()?))
            .or_else(|| serde_json::to_string(&request.headers).ok())?;
        text.as_bytes().clone_into(&mut request.text);
        Some(text)
    });
    if let Some(text) = text {
        setting::REQUEST_HEADERS.set_local(&text);
    }
}

/// An object's text without one of its members. None when the text is not as PostgREST writes it, or the value has characters
/// that JSON may escape.
fn without_member(text: &str, name: &str, value: &str) -> Option<String> {
    let is_plain = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if !is_plain(name) || !is_plain(value) {
        return None;
    }
    // Inside a value its quotes would be escaped.
    let member = format!("\"{name}\":\"{value}\"");
    let (before, after) = text.split_once(&member)?;
    let rest = match before.strip_suffix(',') {
        Some(before) => [before, after].concat(),
        None => [before, after.strip_prefix(',').unwrap_or(after)].concat(),
    };
    (!rest.contains(&member)).then_some(rest)
}

/// Whether a header holds the replacement character, which the proxy writes for bytes that are not UTF-8.
pub fn are_malformed() -> bool {
    with_request(|request| request.malformed).unwrap_or(false)
}

fn with_request<T>(body: impl FnOnce(&Request) -> T) -> Option<T> {
    REQUEST.with_borrow_mut(|request| {
        setting::REQUEST_HEADERS.with(|text| {
            if request.text != text {
                *request = Request {
                    text: text.to_vec(),
                    // Set by hand and malformed: no headers.
                    headers: serde_json::from_slice(text).unwrap_or_default(),
                    malformed: text.windows(3).any(|bytes| bytes == REPLACEMENT_CHARACTER),
                };
            }
        })?;
        Some(body(request))
    })
}

fn add_header(arguments: Arguments) -> Answer {
    let value = arguments.text(1);
    match arguments.text(0) {
        Some(name) if is_name(name) && value.is_none_or(is_value) => {
            add(&[(name, value)]);
            Ok(pg_sys::Datum::null()) // void is not null
        }
        _ => Err(Refusal::new(
            "internal",
            "a response header has a name or a value that HTTP does not allow",
            None,
        )),
    }
}

/// Adds headers to the response. None removes one. Names and values must be valid in HTTP.
pub fn add(headers: &[(&str, Option<&str>)]) {
    let text = setting::RESPONSE_HEADERS.get();
    setting::RESPONSE_HEADERS.set_local(&with(text.as_deref(), headers));
}

/// A header that the response has so far.
pub fn of_response(name: &str) -> Option<String> {
    let text = setting::RESPONSE_HEADERS.get()?;
    let header = parsed(&text)
        .into_iter()
        .rfind(|header| is_of(header, name))?;
    let (_, value) = header.as_object()?.iter().next()?;
    value.as_str().map(str::to_owned)
}

/// All headers that the response has so far; of those that repeat the last.
pub fn all_of_response() -> Map<String, Value> {
    let text = setting::RESPONSE_HEADERS.get();
    let headers = text.as_deref().map(parsed).unwrap_or_default();
    headers
        .into_iter()
        .filter_map(into_object)
        .flatten()
        .collect()
}

fn into_object(header: Value) -> Option<Map<String, Value>> {
    match header {
        Value::Object(header) => Some(header),
        _ => None,
    }
}

/// Adds headers to those that the response has so far: an array of objects of one key each. A header that is set again
/// replaces its former value, except Set-Cookie, which repeats.
fn with(text: Option<&str>, headers: &[(&str, Option<&str>)]) -> String {
    let mut all = text.map(parsed).unwrap_or_default();
    for (name, value) in headers {
        let repeats = value.is_some() && name.eq_ignore_ascii_case("set-cookie");
        all.retain(|header| repeats || !is_of(header, name));
    }
    let mut text = String::with_capacity(512);
    for former in all {
        text.push(if text.is_empty() { '[' } else { ',' });
        text.push_str(&former.to_string());
    }
    for (name, value) in headers {
        if let Some(value) = value {
            text.push(if text.is_empty() { '[' } else { ',' });
            push_object(&mut text, name, value);
        }
    }
    text.push_str(if text.is_empty() { "[]" } else { "]" });
    text
}

/// No headers when the setting was set by hand and is malformed.
fn parsed(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap_or_default()
}

/// Adds an object of one key. JSON escapes two of the characters that HTTP allows.
fn push_object(text: &mut String, name: &str, value: &str) {
    text.push_str("{\"");
    text.push_str(name); // a token
    text.push_str("\":\"");
    let mut rest = value;
    while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\')) {
        text.push_str(&rest[..at]);
        text.push('\\');
        text.push_str(&rest[at..=at]);
        rest = &rest[at + 1..];
    }
    text.push_str(rest);
    text.push_str("\"}");
}

fn is_of(header: &Value, name: &str) -> bool {
    header
        .as_object()
        .is_some_and(|header| header.keys().any(|key| key.eq_ignore_ascii_case(name)))
}

/// A token of RFC 9110.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || b"!#$%&'*+.^_`|~-".contains(&c))
}

fn is_value(value: &str) -> bool {
    !value.contains(char::is_control)
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_header_set_again_replaces_its_former_value() {
        let one = with(None, &[("X-One", Some("1")), ("X-Two", Some("2"))]);
        assert_eq!(one, r#"[{"X-One":"1"},{"X-Two":"2"}]"#);
        let two = with(Some(&one), &[("x-one", Some("a\"3\\\u{e9}\"b"))]);
        assert_eq!(two, r#"[{"X-Two":"2"},{"x-one":"a\"3\\é\"b"}]"#);
        assert_eq!(
            with(Some(&two), &[("X-TWO", None)]),
            r#"[{"x-one":"a\"3\\é\"b"}]"#
        );
    }

    #[test]
    fn cookies_repeat_until_they_are_taken_away() {
        let two = with(
            None,
            &[("Set-Cookie", Some("a=1")), ("set-cookie", Some("b=2"))],
        );
        assert_eq!(two, r#"[{"Set-Cookie":"a=1"},{"set-cookie":"b=2"}]"#);
        assert_eq!(with(Some(&two), &[("Set-Cookie", None)]), "[]");
    }

    #[test]
    fn what_is_malformed_counts_as_none() {
        for text in ["", "not json", "{}", "null"] {
            assert_eq!(with(Some(text), &[("X", Some("1"))]), r#"[{"X":"1"}]"#);
        }
    }

    #[test]
    fn a_member_is_cut_out_of_an_objects_text() {
        let cut = |text| without_member(text, "x-api-key", "kjk_1");
        for (text, rest) in [
            (r#"{"x-api-key":"kjk_1"}"#, "{}"),
            (r#"{"x-api-key":"kjk_1","b":"2"}"#, r#"{"b":"2"}"#),
            (r#"{"a":"1","x-api-key":"kjk_1"}"#, r#"{"a":"1"}"#),
            (
                r#"{"a":"1","x-api-key":"kjk_1","b":"\"x-api-key\":\"kjk_1\""}"#,
                r#"{"a":"1","b":"\"x-api-key\":\"kjk_1\""}"#,
            ),
        ] {
            assert_eq!(cut(text).as_deref(), Some(rest), "{text}");
        }
        for text in [
            r#"{"x-api-key": "kjk_1"}"#,
            r#"{"x-api-key":"kjk_2"}"#,
            r#"{"x-api-key":"kjk_1","x-api-key":"kjk_1"}"#,
        ] {
            assert_eq!(cut(text), None, "{text}");
        }
        assert_eq!(without_member(r#"{"a":"\"1"}"#, "a", "\"1"), None);
    }

    #[test]
    fn no_smuggling() {
        assert!(is_name("X-RateLimit-Limit") && is_value("60 \u{e9}"));
        for name in ["", "X: y", "X\r\n", "\u{e9}"] {
            assert!(!is_name(name), "{name}");
        }
        for value in ["1\r\nSet-Cookie: x", "\0", "\u{85}"] {
            assert!(!is_value(value), "{value:?}");
        }
    }
}
