//! The errors that an HTTP client can get, and the one place that turns them into responses.

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::db::DbError;

/// Everything that can go wrong while answering a request. The codes are those of `kijko.error_codes` where the case
/// exists there.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The request is malformed.
    #[error("{0}")]
    BadRequest(String),
    /// The signature of a webhook's delivery is missing or wrong.
    #[error("{0}")]
    InvalidSignature(String),
    /// This route needs a setting that is missing.
    #[error("not configured: {0}")]
    NotConfigured(&'static str),
    /// There is no such route.
    #[error("there is nothing at this path")]
    NotFound,
    /// The route exists, the method does not.
    #[error("this path does not take this method")]
    MethodNotAllowed,
    /// The body is larger than allowed.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// Too many requests that were refused.
    #[error("Too many requests; try again later.")]
    RateLimited {
        /// Which limit.
        details: Option<String>,
        /// `Retry-After`, `RateLimit` and the others, as the database wrote them.
        headers: Vec<(String, String)>,
    },
    /// Something that this route needs is unavailable; a later retry may succeed.
    #[error("not available at the moment")]
    Unavailable {
        /// For the log only.
        cause: String,
    },
    /// The server that this request was passed on to could not be reached, or its answer could not be passed back.
    #[error("the server behind this path gave no usable answer")]
    UpstreamFailed {
        /// For the log only.
        cause: String,
    },
    /// The server that this request was passed on to took too long.
    #[error("the server behind this path did not answer in time")]
    UpstreamTimedOut {
        /// For the log only.
        cause: String,
    },
    /// Our own fault.
    #[error("something went wrong on our side")]
    Internal {
        /// For the log only.
        cause: String,
    },
}

/// The body of every error, the same as PostgREST's and the database's.
#[derive(Debug, Serialize)]
struct Body<'a> {
    code: &'a str,
    message: String,
    details: Option<String>,
    hint: Option<String>,
}

impl Error {
    /// The name that programs act on.
    pub fn code(&self) -> &'static str {
        self.describe().1
    }

    /// What only the log may see.
    pub fn cause(&self) -> Option<&str> {
        match self {
            Self::Unavailable { cause }
            | Self::UpstreamFailed { cause }
            | Self::UpstreamTimedOut { cause }
            | Self::Internal { cause } => Some(cause),
            _ => None,
        }
    }

    fn describe(&self) -> (StatusCode, &'static str) {
        match self {
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::InvalidSignature(_) => (StatusCode::BAD_REQUEST, "invalid_signature"),
            Self::NotConfigured(_) => (StatusCode::SERVICE_UNAVAILABLE, "not_configured"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large"),
            Self::RateLimited { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
            Self::Unavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            Self::UpstreamFailed { .. } => (StatusCode::BAD_GATEWAY, "upstream_failed"),
            Self::UpstreamTimedOut { .. } => (StatusCode::GATEWAY_TIMEOUT, "upstream_timed_out"),
            Self::Internal { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }

    /// The response. For a fault of ours the client gets the request id, under which the log has the cause.
    pub fn respond(&self, request_id: Option<&str>) -> Response {
        let (status, code) = self.describe();
        let ours = status.is_server_error();
        let body = Body {
            code,
            message: self.to_string(),
            details: match self {
                Self::RateLimited { details, .. } => details.clone(),
                _ => request_id
                    .filter(|_| ours)
                    .map(|id| format!("request id {id}")),
            },
            hint: ours.then(|| "try again; if it goes on, report the request id".to_owned()),
        };
        let mut response = (status, Json(body)).into_response();
        if let Self::RateLimited { headers, .. } = self {
            let headers = headers.iter().filter_map(|(name, value)| {
                Some((name.parse::<HeaderName>().ok()?, value.parse().ok()?))
            });
            response.headers_mut().extend(headers);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

/// The error travels in the response's extensions to the middleware `observe`, which knows the request id, logs the cause
/// and writes the body again with the id.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = self.respond(None);
        response.extensions_mut().insert(self);
        response
    }
}

impl From<DbError> for Error {
    fn from(error: DbError) -> Self {
        let cause = error.to_string();
        if error.is_transient() {
            Self::Unavailable { cause }
        } else {
            Self::Internal { cause }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body(error: Error) -> (StatusCode, serde_json::Value) {
        let response = error.respond(Some("id-1"));
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), 10_000)
            .await
            .unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn our_own_faults_are_opaque_and_carry_the_request_id() {
        let (status, body) = body(Error::Internal {
            cause: "password=hunter2".into(),
        })
        .await;
        assert_eq!(status, 500);
        assert_eq!(body["code"], "internal");
        assert_eq!(body["details"], "request id id-1");
        assert!(!body.to_string().contains("hunter2"));
    }

    #[tokio::test]
    async fn the_callers_faults_say_what_is_wrong() {
        let (status, body) = body(Error::BadRequest("the body is not JSON".into())).await;
        assert_eq!(status, 400);
        assert_eq!(body["message"], "the body is not JSON");
        assert!(body["details"].is_null());
    }

    #[tokio::test]
    async fn a_limit_says_which_and_when_to_come_back() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let error = Error::RateLimited {
            details: Some("failed_requests: more than 60 in 60 s".into()),
            headers: vec![
                header("Retry-After", "7"),
                header("RateLimit", "\"f\";r=0;t=60"),
            ],
        };
        let headers = error.respond(None).headers().clone();
        assert_eq!(headers["retry-after"], "7");
        assert_eq!(headers["ratelimit"], "\"f\";r=0;t=60");
        let (status, body) = body(error).await;
        assert_eq!(
            (status.as_u16(), body["code"].as_str()),
            (429, Some("rate_limited"))
        );
        assert_eq!(body["details"], "failed_requests: more than 60 in 60 s");
    }

    #[test]
    fn an_unreachable_database_is_unavailable_and_a_refusal_is_internal() {
        assert_eq!(
            Error::from(DbError::TimedOut(std::time::Duration::from_secs(1))).code(),
            "unavailable"
        );
        assert_eq!(
            Error::from(DbError::Unexpected("x".into())).code(),
            "internal"
        );
    }
}
