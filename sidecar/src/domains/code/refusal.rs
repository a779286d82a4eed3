//! What was refused, for answers in other shapes than ours.

use axum::{
    Json,
    body::to_bytes,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use kijko_core::{error::Error, http::Accepted};
use serde::{Deserialize, Serialize};

use crate::api::NotGranted;

/// A refusal is small.
const MAX_BYTES: usize = 64 << 10;

/// The body of every error of ours.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Body {
    #[serde(default)]
    pub code: String,
    #[serde(default)]
    pub message: String,
    pub details: Option<String>,
    pub hint: Option<String>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The caller's fault, and what is wrong.
    Said {
        status: StatusCode,
        body: Body,
        /// What is left of the caller's limits.
        headers: HeaderMap,
        /// Whether the database has counted it against the caller.
        counted: bool,
    },
    /// Ours.
    Failed(Error),
}

pub(super) async fn refusal(refused: NotGranted) -> Refusal {
    match refused {
        NotGranted::Refused(response) => {
            let (parts, body) = response.into_parts();
            let body = to_bytes(body, MAX_BYTES).await.unwrap_or_default();
            let mut headers = parts.headers;
            headers.remove(header::CONTENT_TYPE);
            headers.remove(header::CONTENT_LENGTH);
            Refusal::Said {
                status: parts.status,
                body: serde_json::from_slice(&body).unwrap_or_default(),
                headers,
                // Of unauthenticated callers it counts nothing.
                counted: parts.status != StatusCode::UNAUTHORIZED,
            }
        }
        NotGranted::Failed(Error::BadRequest(message)) => {
            Refusal::said(StatusCode::BAD_REQUEST, "bad_request", message)
        }
        NotGranted::Failed(error) => Refusal::Failed(error),
    }
}

impl Refusal {
    pub(super) fn said(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self::Said {
            status,
            body: Body {
                code: code.to_owned(),
                message: message.into(),
                ..Body::default()
            },
            headers: HeaderMap::new(),
            counted: false,
        }
    }

    /// In another shape.
    pub(super) fn shaped<T: Serialize>(
        self,
        shape: impl FnOnce(StatusCode, Body) -> T,
    ) -> Response {
        match self {
            Self::Failed(error) => error.into_response(),
            Self::Said {
                status,
                body,
                headers,
                counted,
            } => {
                let mut response = (status, headers, Json(shape(status, body))).into_response();
                if counted {
                    response.extensions_mut().insert(Accepted);
                }
                response
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.shaped(|_, body| body)
    }
}
