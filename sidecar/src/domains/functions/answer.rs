//! What of an answer is passed back, as it comes. Redirects are not: a client that follows one sends its API key, which is in no
//! header that browsers and Node.js leave out, to the address that the other server names.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, Method, StatusCode, header},
    response::Response,
};
use futures_util::stream;
use kijko_core::{error::Error, http::Accepted};
use tokio::{sync::mpsc, time::Instant};

use super::{
    metrics::Counted,
    outgoing::{declared_length, without_hop_by_hop},
    slots::Slot,
};

/// How long the other server may be silent within its answer.
const MAX_SILENCE: Duration = Duration::from_secs(60);
/// Names and values of the headers that are passed back.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// Headers about the body, and for caches. Others are of the API's own origin: cookies, CORS, policies for pages.
const PASSED_BACK: [&str; 14] = [
    "accept-ranges",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-range",
    "content-type",
    "etag",
    "expires",
    "last-modified",
    "link",
    "retry-after",
    "vary",
];

/// Of the headers that begin with `x-`, which are passed back, these are ours or the proxy's.
const RESERVED: [&str; 10] = [
    "x-accel-",
    "x-content-type-options",
    "x-forwarded-",
    "x-frame-options",
    "x-kijko-",
    "x-process-time",
    "x-ratelimit-",
    "x-relay-error",
    "x-request-id",
    "x-sendfile",
];

/// What holds while the answer comes.
pub(super) struct Limits {
    pub end: Instant,
    pub max_bytes: u64,
    pub slot: Slot,
    pub counted: Counted,
}

/// The answer for the client. Its body goes on while the client reads it.
pub(super) fn pass_back(
    method: &Method,
    answer: reqwest::Response,
    limits: Limits,
) -> Result<Response, (Error, Counted)> {
    match head(method, &answer, limits.max_bytes) {
        Ok(mut response) => {
            *response.body_mut() = pump(answer, limits);
            Ok(response)
        }
        Err(cause) => Err((Error::UpstreamFailed { cause }, limits.counted)),
    }
}

fn head(method: &Method, answer: &reqwest::Response, max_bytes: u64) -> Result<Response, String> {
    let status = answer.status();
    if status.is_informational() || (status.is_redirection() && status != StatusCode::NOT_MODIFIED)
    {
        return Err(format!("it answered {}", status.as_u16()));
    }
    let headers = passed_back(answer.headers());
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if bytes > MAX_HEAD_BYTES {
        return Err(format!("its headers have more than {MAX_HEAD_BYTES} bytes"));
    }
    let too_large = declared_length(&headers).is_some_and(|length| length > max_bytes);
    if too_large && method != Method::HEAD {
        return Err(format!("its answer has more than {max_bytes} bytes"));
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response.extensions_mut().insert(Accepted);
    Ok(response)
}

fn passed_back(from: &HeaderMap) -> HeaderMap {
    let known = |name: &str| {
        PASSED_BACK.contains(&name)
            || (name.starts_with("x-") && !RESERVED.iter().any(|own| name.starts_with(own)))
    };
    let mut kept = HeaderMap::new();
    for (name, value) in &without_hop_by_hop(from) {
        if known(name.as_str()) {
            kept.append(name, value.clone());
        }
    }
    if !kept.contains_key(header::CONTENT_TYPE) {
        // Otherwise the gateway would guess it, perhaps a page. supabase-js takes none for text.
        let text = header::HeaderValue::from_static("text/plain");
        kept.insert(header::CONTENT_TYPE, text);
    }
    kept
}

/// A task of its own reads the answer, so that its time also ends while the client reads nothing. One part waits for the client.
fn pump(answer: reqwest::Response, limits: Limits) -> Body {
    let (parts, received) = mpsc::channel(1);
    tokio::spawn(run(answer, limits, parts));
    Body::from_stream(stream::unfold(received, |mut received| async move {
        let part: Result<Bytes, std::io::Error> = received.recv().await?;
        Some((part, received))
    }))
}

type Parts = mpsc::Sender<Result<Bytes, std::io::Error>>;

async fn run(mut answer: reqwest::Response, mut limits: Limits, parts: Parts) {
    match copy(&mut answer, &limits, &parts).await {
        Ok(outcome) => limits.counted.end(outcome),
        Err(cause) => {
            limits.counted.end("cut_off");
            tracing::info!(cause, "an answer of a function was cut off");
            // An error ends the connection, so that the client does not take what it has for all. Without a reader it is lost.
            let _ = parts.try_send(Err(std::io::Error::other(cause)));
        }
    }
    drop(limits.slot);
}

/// What became of it, or why it was cut off.
async fn copy(
    answer: &mut reqwest::Response,
    limits: &Limits,
    parts: &Parts,
) -> Result<&'static str, &'static str> {
    let mut left = limits.max_bytes;
    loop {
        let silent = (Instant::now() + MAX_SILENCE).min(limits.end);
        let part = tokio::select! {
            () = parts.closed() => return Ok("dropped"),
            part = tokio::time::timeout_at(silent, answer.chunk()) => part,
        };
        let part = match part {
            Err(_) => return Err("it took too long"),
            Ok(Err(_)) => return Err("it broke off"),
            Ok(Ok(None)) => return Ok("answered"),
            Ok(Ok(Some(part))) => part,
        };
        left = left
            .checked_sub(part.len() as u64)
            .ok_or("it is too large")?;
        match tokio::time::timeout_at(limits.end, parts.send(Ok(part))).await {
            Err(_) => return Err("the client read too slowly"),
            Ok(Err(_)) => return Ok("dropped"),
            Ok(Ok(())) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn what_is_of_the_apis_own_origin_is_left_out() {
        let mut from = HeaderMap::new();
        for (name, value) in [
            ("content-type", "text/event-stream"),
            ("cache-control", "no-store"),
            ("x-own", "1"),
            ("x-hop", "1"),
            ("connection", "x-hop"),
            ("set-cookie", "sb-127-auth-token=evil"),
            ("location", "https://evil.example"),
            ("access-control-allow-origin", "https://evil.example"),
            ("access-control-allow-credentials", "true"),
            ("content-security-policy", "default-src *"),
            ("clear-site-data", "\"*\""),
            ("strict-transport-security", "max-age=0"),
            ("www-authenticate", "Basic"),
            ("refresh", "0;url=https://evil.example"),
            ("transfer-encoding", "chunked"),
            ("x-relay-error", "true"),
            ("x-request-id", "another"),
            ("x-ratelimit-remaining", "0"),
            ("x-frame-options", "ALLOWALL"),
            ("x-kijko-key", "1"),
        ] {
            from.append(name, HeaderValue::from_static(value));
        }
        let names: Vec<_> = passed_back(&from).keys().map(|it| it.to_string()).collect();
        assert_eq!(names, ["content-type", "cache-control", "x-own"]);
        assert_eq!(passed_back(&HeaderMap::new())["content-type"], "text/plain");
    }
}
