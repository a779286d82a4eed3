//! Refusals in upstream's shapes, with a reason beside the message.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::{authorize::AuthorizeError, socket::reason};

/// Why a request is refused.
#[derive(Debug)]
pub enum Refusal {
    /// No valid token; the reason if there was one.
    Unauthorized(Option<String>),
    /// More than one caller; the reason.
    TwoIdentities(&'static str),
    /// Policies do not allow it.
    Forbidden(Option<String>),
    /// The body or the query makes no sense.
    Invalid(String),
    /// The payload is too large.
    TooLarge,
    /// Too many messages a second.
    TooMany,
    /// Too many connections; the reason.
    Full(&'static str),
    /// The database does not answer.
    Unavailable,
}

impl From<AuthorizeError> for Refusal {
    fn from(error: AuthorizeError) -> Self {
        let reason = reason(&error);
        match error {
            AuthorizeError::NotIdentified(_) => Self::Unauthorized(Some(reason)),
            AuthorizeError::Policy(_) => Self::Forbidden(Some(reason)),
            AuthorizeError::Database(_) => Self::Unavailable,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, body) = match self {
            Self::Unauthorized(reason) => (
                StatusCode::UNAUTHORIZED,
                json!({ "message": "Unauthorized", "reason": reason }),
            ),
            Self::TwoIdentities(reason) => (
                StatusCode::BAD_REQUEST,
                json!({ "message": "Bad Request", "reason": format!("bad_request: {reason}") }),
            ),
            Self::Forbidden(reason) => (
                StatusCode::FORBIDDEN,
                json!({ "message": "Unauthorized", "reason": reason }),
            ),
            Self::Invalid(problem) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                json!({ "errors": { "messages": [problem] } }),
            ),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                json!({ "message": "payload_size_exceeded" }),
            ),
            Self::TooMany => (
                StatusCode::TOO_MANY_REQUESTS,
                json!({ "message": "Too many messages per second" }),
            ),
            Self::Full(reason) => (StatusCode::TOO_MANY_REQUESTS, json!({ "message": reason })),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                json!({ "message": "not available at the moment" }),
            ),
        };
        (status, Json(body)).into_response()
    }
}
