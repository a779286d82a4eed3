//! What an answer of the API means to the caller.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use kijko_core::error::Error;
use serde_json::Value;

/// Why the API granted nothing.
#[derive(Debug)]
pub(crate) enum NotGranted {
    /// The API's refusal, for the caller.
    Refused(Box<Response>),
    /// It gave no answer that can be used, or the request was wrong before it was asked.
    Failed(Error),
}

impl NotGranted {
    /// A refusal that we say in the API's place.
    pub(crate) fn refused(status: StatusCode, body: &Value) -> Self {
        let body = body.to_string().into_bytes();
        refusal(status.as_u16(), body, HeaderMap::new())
    }
}

impl From<Error> for NotGranted {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl IntoResponse for NotGranted {
    fn into_response(self) -> Response {
        match self {
            Self::Refused(refusal) => *refusal,
            Self::Failed(error) => error.into_response(),
        }
    }
}

/// What an answer of the API, or of the database in its place, means to the caller.
pub(super) fn judged(
    status: u16,
    body: Vec<u8>,
    limits: HeaderMap,
) -> Result<(Vec<u8>, HeaderMap), NotGranted> {
    let fault = (status >= 400).then(|| reason(&body)).flatten();
    let code = fault.as_ref().map(|(code, _)| code.as_str());
    match status {
        200..=299 => Ok((body, limits)),
        // No SQLSTATE: PostgREST's connection broke. Clients do not repeat what is 400.
        400..=499 if code != Some("") => Err(refusal(status, body, limits)),
        // Ours: the database says what is missing.
        503 if code == Some("unavailable") => Err(refusal(status, body, limits)),
        other => Err(NotGranted::Failed(Error::Unavailable {
            cause: match &fault {
                Some((code, message)) => format!("the API answered {other}: {code}: {message}"),
                None => format!("the API answered {other}"),
            },
        })),
    }
}

/// Code and message of an error of PostgREST, for the log.
fn reason(body: &[u8]) -> Option<(String, String)> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let text = |name: &str| {
        let text = body.get(name)?.as_str()?;
        Some(text.chars().take(300).collect::<String>())
    };
    Some((text("code")?, text("message").unwrap_or_default()))
}

fn refusal(status: u16, body: Vec<u8>, limits: HeaderMap) -> NotGranted {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    *response.headers_mut() = limits;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    NotGranted::Refused(Box::new(response))
}
