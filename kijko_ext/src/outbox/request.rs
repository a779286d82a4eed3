//! What may be stored as a request.

use kijko_guard::{Guard, Refused};
use pgrx::JsonB;
use pgrx::prelude::*;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::sign::{self, Signing};
use crate::guc;

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const MAX_BODY: usize = 256 * 1024;
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 8 * 1024;
/// Those that the connection decides (RFC 9110, section 7.6.1), and what the client sets itself.
const RESERVED: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The first thing that is wrong with a request, in words; null when it may be stored. Looks up no name.
#[pg_extern(stable, parallel_safe)]
fn http_request_problem(
    method: Option<&str>,
    url: Option<&str>,
    headers: Option<JsonB>,
    body: Option<&str>,
    signing: Option<JsonB>,
) -> Option<String> {
    if !method.is_some_and(|method| METHODS.contains(&method)) {
        return Some(format!("the method must be one of {}", METHODS.join(", ")));
    }
    if let Err(refused) = guc::http::with_guard(|guard| check_url(guard, url)) {
        return Some(refused.to_string());
    }
    if body.is_some_and(|body| body.len() > MAX_BODY) {
        return Some(format!("the body is longer than {MAX_BODY} bytes"));
    }
    let signed = match &signing {
        Some(JsonB(signing)) => match Signing::parse(signing) {
            Some(_) => true,
            None => {
                return Some("signing must be {\"id\": text, \"secrets\": [1 to 10 names]}".into());
            }
        },
        None => false,
    };
    match headers {
        Some(JsonB(Value::Object(headers))) => headers_problem(&headers, signed),
        _ => Some("the headers must be an object".into()),
    }
}

/// The secrets that headers and a signature name.
#[pg_extern(immutable, parallel_safe)]
fn http_secret_names(headers: Option<JsonB>, signing: Option<JsonB>) -> Vec<String> {
    let mut names = Vec::new();
    if let Some(JsonB(Value::Object(headers))) = &headers {
        names.extend(headers.values().filter_map(secret_name).map(str::to_owned));
    }
    if let Some(signing) = signing
        .as_ref()
        .and_then(|JsonB(signing)| Signing::parse(signing))
    {
        names.extend(signing.secrets);
    }
    names.sort();
    names.dedup();
    names
}

/// The public key (`whpk_…`) of a private one (`whsk_…`); null for any other text.
#[pg_extern(immutable, parallel_safe)]
fn http_public_key(secret: &str) -> Option<String> {
    sign::public_key(secret)
}

/// Scheme, host and port of a URL; null for what is none.
#[pg_extern(immutable, parallel_safe)]
fn http_origin(url: &str) -> Option<String> {
    let url: Url = url.parse().ok()?;
    Some(format!(
        "{}://{}:{}",
        url.scheme(),
        url.host_str()?,
        url.port_or_known_default()?
    ))
}

/// The text of a body, with U+FFFD for what is not UTF-8 or cannot be stored as text.
#[pg_extern(immutable, parallel_safe)]
fn http_body_text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).replace('\0', "\u{fffd}")
}

fn check_url(guard: &Guard, url: Option<&str>) -> Result<Url, Refused> {
    guard.check(url.unwrap_or_default())
}

/// The name of the secret that a header's value refers to.
pub fn secret_name(value: &Value) -> Option<&str> {
    let value = value.as_object().filter(|value| value.len() == 1)?;
    value.get("secret")?.as_str()
}

fn headers_problem(headers: &Map<String, Value>, signed: bool) -> Option<String> {
    if headers.len() > MAX_HEADERS {
        return Some(format!("there are more than {MAX_HEADERS} headers"));
    }
    headers.iter().find_map(|(name, value)| {
        let lower = name.to_ascii_lowercase();
        let parsed = HeaderName::from_bytes(name.as_bytes());
        if parsed.is_err()
            || RESERVED.contains(&lower.as_str())
            || signed && lower.starts_with("webhook-")
        {
            return Some(format!("the header {name:?} cannot be set"));
        }
        let fits = match value.as_str() {
            Some(text) => text.len() <= MAX_HEADER_BYTES && HeaderValue::from_str(text).is_ok(),
            None => secret_name(value).is_some(),
        };
        (!fits).then(|| {
            format!(
                "the header {name:?} must be one line of at most 8 KiB, or {{\"secret\": name}}"
            )
        })
    })
}

#[cfg(test)]
mod unit {
    use serde_json::json;

    use super::*;

    fn problem(headers: Value, signed: bool) -> Option<String> {
        headers_problem(headers.as_object().unwrap(), signed)
    }

    #[test]
    fn headers_are_one_line_and_not_the_connections() {
        assert_eq!(
            problem(
                json!({"X-A": "b", "authorization": {"secret": "token"}}),
                true
            ),
            None
        );
        for headers in [
            json!({"Host": "a"}),
            json!({"transfer-encoding": "chunked"}),
            json!({"X A": "b"}),
            json!({"": "b"}),
            json!({"X-A": "b\r\nX-B: c"}),
            json!({"X-A": 1}),
            json!({"X-A": null}),
            json!({"X-A": {"secret": 1}}),
            json!({"X-A": {"secret": "a", "more": "b"}}),
            json!({"X-A": "b".repeat(MAX_HEADER_BYTES + 1)}),
        ] {
            assert!(problem(headers.clone(), false).is_some(), "{headers}");
        }
        assert!(problem(json!({"Webhook-Id": "x"}), true).is_some());
        assert_eq!(problem(json!({"Webhook-Id": "x"}), false), None);
    }

    #[test]
    fn an_origin_has_its_port() {
        assert_eq!(
            http_origin("https://Example.com/a?b").as_deref(),
            Some("https://example.com:443")
        );
        assert_eq!(
            http_origin("http://example.com:8080").as_deref(),
            Some("http://example.com:8080")
        );
        assert_eq!(http_origin("nothing"), None);
    }
}
