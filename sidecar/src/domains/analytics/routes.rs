//! `POST /api/v1/ingest/…`: the methods of Segment's HTTP API. Its clients repeat a request until they get an answer, so one that was
//! read is answered 200 whatever its messages are worth; only a body that is no JSON or too large is 400.

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use kijko_core::{error::Error, http::extract::body, telemetry::canonical};
use serde::Deserialize;
use serde_json::json;

use super::messages::{self, Kind};
use crate::{
    api::{Api, NotGranted},
    basic::{self, Fault},
};

/// Of a body, as it is sent and unpacked: 500 KB, as Segment has it.
const MAX_BODY: usize = 512_000;

/// None: not configured.
#[derive(Clone)]
struct Ingest(Option<Api>);

/// What `track` answers.
#[derive(Deserialize)]
struct Taken {
    accepted: u64,
    duplicates: u64,
    dropped: u64,
    quarantined: u64,
}

pub(super) fn routes(api: Option<Api>) -> Router {
    Router::new()
        .route("/api/v1/ingest/{method}", post(take))
        // Some clients put their version behind the address that they are given.
        .route("/api/v1/ingest/v1/{method}", post(take))
        .with_state(Ingest(api))
}

async fn take(
    State(ingest): State<Ingest>,
    Path(method): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, NotGranted> {
    let kind = Kind::of_method(&method).ok_or(Error::NotFound)?;
    let api = Api::configured(ingest.0.as_ref())?;
    let sent = match body::read(body, MAX_BODY).await {
        Err(Error::TooLarge(_)) => return Err(too_large()),
        sent => sent?,
    };
    let is_gzip = headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"gzip"));
    let read = messages::read(kind, &sent, is_gzip, MAX_BODY);
    let messages = read.map_err(|fault| match fault {
        messages::Fault::TooLarge => too_large(),
        messages::Fault::Malformed(message) => Error::BadRequest(message).into(),
    })?;
    let headers = with_key(headers, messages.write_key.as_deref())?;
    let arguments = json!({ "events": messages.events });
    let (taken, limits) = api.call::<Taken>("track", &headers, &arguments).await?;
    for (name, count) in [
        ("events", taken.accepted),
        ("duplicates", taken.duplicates),
        ("dropped", taken.dropped),
        ("quarantined", taken.quarantined),
    ] {
        canonical::add(name, count);
    }
    Ok((limits, Json(json!({ "success": true }))).into_response())
}

fn too_large() -> NotGranted {
    let message = format!("a body has at most {MAX_BODY} bytes");
    let body = json!({ "code": "bad_request", "message": message, "details": null, "hint": null });
    NotGranted::refused(StatusCode::BAD_REQUEST, &body)
}

/// The write key is the name of Basic credentials, or a member of the body. Without either the caller is whom the headers say.
fn with_key(mut headers: HeaderMap, of_body: Option<&str>) -> Result<HeaderMap, NotGranted> {
    let assumed = match (basic::credentials(&headers), of_body) {
        (Some(credentials), _) => {
            credentials.and_then(|it| basic::assume_key(&mut headers, &it.name))
        }
        (None, Some(key)) if !headers.contains_key(header::AUTHORIZATION) => {
            basic::assume_key(&mut headers, key)
        }
        _ => Ok(()),
    };
    match assumed {
        Ok(()) => Ok(headers),
        Err(fault) => {
            let (status, code) = match fault {
                Fault::NotAKey => (StatusCode::UNAUTHORIZED, "invalid_api_key"),
                Fault::TwoKeys => (StatusCode::BAD_REQUEST, "bad_request"),
            };
            let message = fault.message();
            let body = json!({ "code": code, "message": message, "details": null, "hint": null });
            Err(NotGranted::refused(status, &body))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(authorization: Option<&str>, of_body: Option<&str>) -> Option<String> {
        let mut headers = HeaderMap::new();
        if let Some(authorization) = authorization {
            headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
        }
        let headers = with_key(headers, of_body).ok()?;
        let key = headers.get("x-api-key");
        Some(key.map_or("", |key| key.to_str().unwrap()).to_owned())
    }

    #[test]
    fn the_write_key_is_in_the_credentials_or_the_body() {
        // kjk_live_a: and x:
        let (basic, other) = ("Basic a2prX2xpdmVfYTo=", "Basic eDo=");
        assert_eq!(key(Some(basic), None).as_deref(), Some("kjk_live_a"));
        assert_eq!(
            key(Some(basic), Some("kjk_live_b")).as_deref(),
            Some("kjk_live_a")
        );
        assert_eq!(key(None, Some("kjk_live_b")).as_deref(), Some("kjk_live_b"));
        assert_eq!(key(Some(other), None), None);
        assert_eq!(key(None, Some("x")), None);
        // A member's own token is not replaced by a key of the body.
        assert_eq!(
            key(Some("Bearer t"), Some("kjk_live_b")).as_deref(),
            Some("")
        );
    }
}
