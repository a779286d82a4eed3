//! What every request gets: an id, a time limit, a size limit, a log line, metrics and the error's body.

use std::time::{Duration, Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tracing::Instrument;
use uuid::Uuid;

use super::{AppState, body};
use crate::error::Error;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PROCESS_TIME: HeaderName = HeaderName::from_static("x-process-time");

/// The outermost layer.
pub(super) async fn observe(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let start = Instant::now();
    let id = request_id(request.headers());
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("unmatched", MatchedPath::as_str)
        .to_owned();
    let span = tracing::info_span!("request", request_id = id, method = %method, route);

    let response = answer(&state, request, next).instrument(span.clone()).await;
    let took = start.elapsed();
    let _entered = span.enter();
    let response = finish(response, &id, took);
    report(&state, &response, took);
    state.metrics.request(
        method_label(&method),
        &route,
        response.status().as_u16(),
        took,
    );
    response
}

/// Clients may send any method name, in any case; they must not choose a metric's label.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

async fn answer(state: &AppState, request: Request, next: Next) -> Response {
    let limit = state.http.request_timeout;
    let most = state.http.max_body_bytes;
    if declared_length(request.headers()).is_some_and(|length| length > most as u64) {
        // Nothing of it is kept; what matters is that the sender has sent it, and reads the answer.
        let _ = tokio::time::timeout(limit, body::read(request.into_body(), 0)).await;
        return Error::TooLarge(most).into_response();
    }
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Error::Unavailable {
            cause: format!("no answer within {limit:?}"),
        }
        .into_response(),
    }
}

/// A caller's id is taken over if it can stand in a log and a header as it is.
fn request_id(headers: &HeaderMap) -> String {
    let sane = |id: &&str| {
        (1..=128).contains(&id.len())
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
    };
    let given = headers
        .get(&REQUEST_ID)
        .and_then(|id| id.to_str().ok())
        .filter(sane);
    given.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// Errors are written again with the id, and their cause is logged; then the headers that every response has.
fn finish(response: Response, id: &str, took: Duration) -> Response {
    let mut response = match response.extensions().get::<Error>() {
        Some(error) => {
            if let Some(cause) = error.cause() {
                tracing::error!(code = error.code(), cause, "the request failed");
            }
            error.respond(Some(id))
        }
        None => response,
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (REQUEST_ID, id.to_owned()),
        (PROCESS_TIME, format!("{:.6}", took.as_secs_f64())),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}

/// Probes come every few seconds; only what is slow or wrong is worth more than a debug line.
fn report(state: &AppState, response: &Response, took: Duration) {
    let (status, took_ms) = (response.status().as_u16(), took.as_millis() as u64);
    if took >= state.http.slow_request {
        tracing::warn!(status, took_ms, "slow request");
    } else {
        tracing::debug!(status, took_ms, "request");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(given: &'static str) -> String {
        request_id(&HeaderMap::from_iter([(
            REQUEST_ID,
            HeaderValue::from_static(given),
        )]))
    }

    #[test]
    fn sane_ids_are_kept_and_others_replaced() {
        assert_eq!(id_for("abc-123_x.y:z"), "abc-123_x.y:z");
        for bad in ["", "a b", "a\"b", "<script>", "a/b"] {
            assert!(Uuid::parse_str(&id_for(bad)).is_ok(), "{bad:?} was kept");
        }
        assert!(Uuid::parse_str(&request_id(&HeaderMap::new())).is_ok());
    }
}
