//! A line of the log as a request, and the route of its path. Pure.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use kijko_core::telemetry::traces::{Kind, Span, SpanId, TraceParent, span::Attributes};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// As Caddy writes it, without the fields that nobody needs.
#[derive(Deserialize)]
struct Line {
    ts: f64,
    request: Request,
    duration: f64,
    #[serde(default)]
    size: i64,
    status: u16,
    #[serde(default)]
    resp_headers: HashMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Request {
    method: String,
    uri: String,
}

/// A request of the API, as the database takes it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct LoggedRequest {
    pub id: Uuid,
    pub request_id: Option<String>,
    pub method: String,
    pub route: String,
    pub status: u16,
    pub duration_ms: f64,
    pub response_bytes: u64,
    pub sampled: u32,
    pub ended_at: f64,
    /// The span of the proxy, and the client's span that it belongs to.
    #[serde(skip)]
    pub trace: Option<(TraceParent, Option<SpanId>)>,
}

impl LoggedRequest {
    /// What the proxy saw. None: it is in no trace.
    pub(super) fn span(&self) -> Option<Span> {
        let (place, parent) = self.trace?;
        let mut attributes = Attributes::default();
        attributes.set("kijko.part", "proxy");
        attributes.set("http.request.method", self.method.as_str());
        attributes.set("http.route", self.route.as_str());
        attributes.set("http.response.status_code", u32::from(self.status));
        attributes.set_some("kijko.request.id", self.request_id.as_deref());
        let end = SystemTime::UNIX_EPOCH + Duration::try_from_secs_f64(self.ended_at).ok()?;
        let start = end.checked_sub(Duration::try_from_secs_f64(self.duration_ms / 1e3).ok()?)?;
        let name = format!("{} {}", self.method, self.route);
        let span = Span::new(name, Kind::Server, (place.trace, place.span), parent, start);
        let span = span.with(attributes).until(end);
        Some(match self.status {
            500.. => span.failed("server_error"),
            _ => span,
        })
    }
}

/// The header by which the proxy names a request to the parts behind it.
const ID: &str = "X-Kijko-Request";
const REQUEST_ID: &str = "X-Request-Id";
/// `traceparent` as the parts behind the proxy got it, and behind a blank the client's span.
const TRACE: &str = "X-Kijko-Trace";

const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// Where the API is, and how many words of a path behind that say what is called.
const PLACES: [(&str, usize); 9] = [
    ("/rest/v1", 1),
    ("/auth/v1", 1),
    ("/storage/v1", 1),
    ("/realtime/v1", 1),
    ("/functions/v1", 1),
    ("/llm/v1", 2),
    ("/api/v1", 2),
    ("/webhooks", 1),
    ("/mcp", 0),
];

/// The request of a line. None: it is no request of the API, or no line that the proxy writes.
pub(super) fn parse(line: &[u8]) -> Option<LoggedRequest> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let header = |name| line.resp_headers.get(name)?.first().cloned();
    let route = route(&line.request.uri)?;
    let is_time = line.ts.is_finite() && line.duration.is_finite();
    if !METHODS.contains(&&*line.request.method) || !is_time {
        return None; // preflights are no requests of a program
    }
    Some(LoggedRequest {
        id: Uuid::parse_str(&header(ID)?).ok()?,
        request_id: header(REQUEST_ID).filter(|id| is_id(id)),
        method: line.request.method.clone(),
        route,
        status: line.status.min(999),
        duration_ms: (line.duration.clamp(0.0, 1e6) * 1e6).round() / 1e3,
        response_bytes: line.size.max(0).unsigned_abs(),
        sampled: 1,
        ended_at: line.ts,
        trace: header(TRACE).and_then(|text| {
            let (place, parent) = text.split_once(' ').unwrap_or((&text, ""));
            Some((TraceParent::parse(place)?, SpanId::parse(parent)))
        }),
    })
}

fn is_id(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    (1..=128).contains(&id.len()) && id.bytes().all(is_plain)
}

/// A path without what names a row, a file or a person. None: it is not of the API.
fn route(uri: &str) -> Option<String> {
    let path = uri.split(['?', '#']).next().unwrap_or_default();
    let (place, words) = PLACES.iter().find(|(place, _)| {
        let rest = path.strip_prefix(place);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })?;
    let mut named = path[place.len()..]
        .split('/')
        .filter(|word| !word.is_empty());
    let mut route = (*place).to_owned();
    let mut left = *words;
    while left > 0
        && let Some(word) = named.next()
    {
        left -= 1;
        if !is_name(word) {
            route.push_str("/*");
            break;
        }
        route.push('/');
        route.push_str(word);
        if route == "/rest/v1/rpc" {
            left += 1;
        }
    }
    Some(route)
}

/// Names of tables, functions and routes. Anything else may be somebody's.
fn is_name(word: &str) -> bool {
    let is_plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    word.len() <= 63
        && word.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && word.bytes().all(is_plain)
        && Uuid::parse_str(word).is_err()
}

/// The part of the API, for metrics.
pub(super) fn part(route: &str) -> &'static str {
    match route.split('/').nth(1) {
        Some("rest") => "rest",
        Some("auth") => "auth",
        Some("storage") => "storage",
        Some("realtime") => "realtime",
        Some("functions") => "functions",
        Some("llm") => "llm",
        Some("webhooks") => "webhooks",
        _ => "code",
    }
}

/// Keeps one of `every` requests, which stands for all of them, and each failure of ours.
pub(super) fn sample(request: LoggedRequest, every: u32) -> Option<LoggedRequest> {
    if every <= 1 || request.status >= 500 {
        return Some(request);
    }
    let chosen = request.id.as_u128().is_multiple_of(u128::from(every));
    chosen.then_some(LoggedRequest {
        sampled: every,
        ..request
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const UUID: &str = "5c9c3e50-9fa2-4ba1-a2cd-30d799729347";

    fn line(uri: &str, more: serde_json::Value) -> Vec<u8> {
        let mut line = json!({
            "ts": 1_795_983_256.101, "request": {"method": "GET", "host": "x", "uri": uri}, "duration": 0.012_345_6, "size": 36,
            "status": 200, "resp_headers": {"X-Request-Id": ["abc"], "X-Kijko-Request": [UUID], "Content-Type": ["text/plain"]},
        });
        for (name, value) in more.as_object().unwrap() {
            line[name] = value.clone();
        }
        line.to_string().into_bytes()
    }

    #[test]
    fn a_line_is_a_request() {
        let request = parse(&line(
            "/rest/v1/projects?select=*&name=eq.secret",
            json!({}),
        ))
        .unwrap();
        assert_eq!(
            serde_json::to_value(&request).unwrap(),
            json!({
                "id": UUID, "request_id": "abc", "method": "GET", "route": "/rest/v1/projects", "status": 200, "duration_ms": 12.346,
                "response_bytes": 36, "sampled": 1, "ended_at": 1_795_983_256.101,
            })
        );
    }

    #[test]
    fn what_is_no_request_of_the_api_is_left_out() {
        for bad in [
            line("/health", json!({})),
            line("/restless/v1/projects", json!({})),
            line("/rest/v1/x", json!({"resp_headers": {}})),
            line(
                "/rest/v1/x",
                json!({"resp_headers": {"X-Kijko-Request": ["mine"]}}),
            ),
            line(
                "/rest/v1/x",
                json!({"request": {"method": "OPTIONS", "uri": "/rest/v1/x"}}),
            ),
            line("/rest/v1/x", json!({"status": "200"})),
            b"{".to_vec(),
            b"\0\xff".to_vec(),
            Vec::new(),
        ] {
            assert_eq!(parse(&bad), None, "{}", String::from_utf8_lossy(&bad));
        }
        let foreign = json!({"resp_headers": {"X-Kijko-Request": [UUID], "X-Request-Id": ["a b"]}, "size": -1, "duration": -5.0});
        let request = parse(&line("/mcp", foreign)).unwrap();
        assert_eq!(
            (
                request.request_id,
                request.response_bytes,
                request.duration_ms
            ),
            (None, 0, 0.0)
        );
    }

    #[test]
    fn a_route_names_no_row_no_file_and_no_person() {
        for (uri, expected) in [
            ("/rest/v1/", "/rest/v1"),
            ("/rest/v1/projects/extra", "/rest/v1/projects"),
            ("/rest/v1/rpc/execute_skill", "/rest/v1/rpc/execute_skill"),
            ("/rest/v1/rpc/Ada%40example.com", "/rest/v1/rpc/*"),
            ("/rest/v1/ada@example.com", "/rest/v1/*"),
            ("/storage/v1/object/private/tax.pdf", "/storage/v1/object"),
            ("/auth/v1/verify?token=abc", "/auth/v1/verify"),
            (
                "/webhooks/reflex/5c9c3e50-9fa2-4ba1-a2cd-30d799729347",
                "/webhooks/reflex",
            ),
            (
                "/webhooks/5c9c3e50-9fa2-4ba1-a2cd-30d799729347",
                "/webhooks/*",
            ),
            ("/webhooks/a5c9c3e509fa24ba1a2cd30d79972934", "/webhooks/*"),
            ("/llm/v1/chat/completions", "/llm/v1/chat/completions"),
            (
                "/api/v1/files/symbols/src/secret.rs",
                "/api/v1/files/symbols",
            ),
            ("/mcp", "/mcp"),
        ] {
            assert_eq!(route(uri).as_deref(), Some(expected), "{uri}");
        }
        let long = format!("/rest/v1/{}", "a".repeat(64));
        assert_eq!(route(&long).as_deref(), Some("/rest/v1/*"));
    }

    #[test]
    fn a_sample_stands_for_all_and_every_failure_stands_for_itself() {
        let request = parse(&line("/rest/v1/projects", json!({}))).unwrap();
        let of = |number: u128, status| LoggedRequest {
            id: Uuid::from_u128(number),
            status,
            ..request.clone()
        };
        let kept: Vec<_> = (0..100)
            .filter_map(|number| sample(of(number, 200), 10))
            .collect();
        assert_eq!(kept.iter().map(|one| one.sampled).sum::<u32>(), 100);
        assert_eq!(kept.len(), 10);
        assert_eq!(sample(of(3, 503), 10).unwrap().sampled, 1);
        assert_eq!(sample(of(3, 200), 1), Some(of(3, 200)));
    }
}
