//! What goes wrong, in the shape of OpenAI's errors: `{"error": {"message", "type", "param", "code"}}`. The official clients choose
//! their class by the status, and `x-should-retry` overrides whether they try again.

use axum::{
    Json,
    body::to_bytes,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use kijko_core::{error::Error, http::Accepted};
use serde_json::{Value, json};

use crate::llm::{LlmError, LlmFault};

const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const RESOURCE: HeaderName = HeaderName::from_static("x-ratelimit-resource");
/// What calls hold of a plan, and settlements give back.
const METERS: [&str; 2] = ["llm_tokens", "llm_cost_microusd"];
/// A refusal of the API is small.
const MAX_REFUSAL: usize = 64 << 10;

/// An error for the client.
#[derive(Debug, Clone)]
pub(super) struct ApiError {
    pub status: StatusCode,
    pub kind: &'static str,
    pub code: String,
    pub param: Option<&'static str>,
    pub message: String,
    /// Whether the clients should try again, where the status alone would mislead them.
    pub retry: Option<bool>,
    /// `Retry-After` and what is left of limits.
    pub headers: Box<HeaderMap>,
    /// For the log only.
    pub cause: Option<Box<str>>,
    /// The database has counted the request against its caller, so that it is no refusal of an address.
    pub counted: bool,
}

impl ApiError {
    pub(super) fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self {
            status,
            kind: kind(status, code),
            code: code.to_owned(),
            param: None,
            message: message.into(),
            retry: None,
            headers: Box::default(),
            cause: None,
            counted: false,
        }
    }

    /// The request is wrong, and which of its fields.
    pub(super) fn invalid(param: &'static str, message: impl Into<String>) -> Self {
        let mut error = Self::new(400, "bad_request", message);
        error.param = Some(param);
        error
    }

    /// The field cannot be translated for this vendor.
    pub(super) fn unsupported(param: &'static str, message: impl Into<String>) -> Self {
        let mut error = Self::new(400, "unsupported_parameter", message);
        error.param = Some(param);
        error
    }

    /// The caller's organization has too many of something at once. That is no refusal of an address.
    pub(super) fn crowded(what: &str) -> Self {
        let message = format!("too many {what} of this organization at once; try again");
        let mut error = Self::new(429, "rate_limited", message).retry_after(1);
        error.counted = true;
        error
    }

    pub(super) fn final_answer(mut self) -> Self {
        self.retry = Some(false);
        self
    }

    pub(super) fn retry_after(mut self, seconds: u64) -> Self {
        self.headers.insert(header::RETRY_AFTER, seconds.into());
        self
    }

    /// A vendor's error. Its own statuses would mislead: its 401 is not about the caller's key.
    pub(super) fn of_vendor(error: &LlmError) -> Self {
        let status = match error.fault {
            LlmFault::ContextTooLong | LlmFault::Rejected => 400,
            LlmFault::ModelNotAvailable => 404,
            LlmFault::RateLimited => 429,
            LlmFault::Overloaded | LlmFault::QuotaExhausted => 503,
            LlmFault::TimedOut => 504,
            _ => 502,
        };
        let code = match error.fault {
            // OpenAI's own name, which programs act on.
            LlmFault::ContextTooLong => "context_length_exceeded",
            LlmFault::ModelNotAvailable => "model_not_found",
            _ => error.code(),
        };
        let made = Self::new(status, code, error.message.clone());
        let made = match error.retry_after {
            Some(wait) => made.retry_after(wait.as_secs().max(1)),
            None => made,
        };
        match error.fault {
            LlmFault::Auth | LlmFault::QuotaExhausted | LlmFault::Stopped => made.final_answer(),
            _ => made,
        }
    }

    /// Whether a budget or the plan has no room.
    pub(super) fn is_spent(&self) -> bool {
        matches!(self.code.as_str(), "budget_exceeded" | "quota_exceeded")
    }

    /// Whether the settlement of former calls may leave room for this one. Requests that are used up stay so.
    pub(super) fn may_pass(&self) -> bool {
        match self.code.as_str() {
            "budget_exceeded" => true,
            // The message may hold what a tenant wrote. The header names the meter that has no room.
            "quota_exceeded" => {
                let resource = self.headers.get(RESOURCE);
                resource.is_some_and(|it| METERS.iter().any(|meter| it == meter))
            }
            _ => false,
        }
    }

    /// A refusal of the API. It has counted who calls against their own limits; only unauthenticated ones count for their address.
    pub(super) async fn of_caller(refusal: Response) -> Self {
        let mut error = Self::of_api(refusal).await;
        error.counted = error.status.as_u16() != 401;
        error
    }

    /// A refusal of the database: `{code, message, details, hint}`.
    pub(super) async fn of_api(refusal: Response) -> Self {
        let (parts, body) = refusal.into_parts();
        let body = to_bytes(body, MAX_REFUSAL).await.unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |name: &str| {
            body.get(name)
                .and_then(Value::as_str)
                .filter(|it| !it.is_empty())
        };
        let code = text("code").unwrap_or("refused");
        let message = [text("message"), text("details"), text("hint")];
        let message: Vec<_> = message.into_iter().flatten().collect();
        let mut error = Self::new(parts.status.as_u16(), code, message.join(": "));
        error.headers = Box::new(parts.headers);
        error.headers.remove(header::CONTENT_TYPE);
        error.headers.remove(header::CONTENT_LENGTH);
        if code.starts_with("model_") {
            error.param = Some("model");
        }
        match error.is_spent() {
            // Another try in a second is refused as well.
            true => error.final_answer(),
            false => error,
        }
    }

    /// The object alone: what a stream that fails sends as its last event.
    pub(super) fn body(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
    }
}

/// OpenAI's name of the kind.
fn kind(status: StatusCode, code: &str) -> &'static str {
    match (status.as_u16(), code) {
        (_, "budget_exceeded" | "quota_exceeded") => "insufficient_quota",
        (401, _) => "authentication_error",
        (403, _) => "permission_error",
        (429, _) => "rate_limit_error",
        (400..=499, _) => "invalid_request_error",
        _ => "server_error",
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let response = error.respond(None);
        let mut made = Self::new(response.status().as_u16(), error.code(), error.to_string());
        if let Some(wait) = response.headers().get(header::RETRY_AFTER) {
            made.headers.insert(header::RETRY_AFTER, wait.clone());
        }
        made.cause = error.cause().map(Box::from);
        made
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            let cause = self.cause.as_deref().unwrap_or_default();
            tracing::warn!(code = self.code, cause, "a call of a model failed");
        }
        kijko_core::telemetry::canonical::add("llm_error", self.code.as_str());
        let mut response = (self.status, Json(self.body())).into_response();
        response.headers_mut().extend(*self.headers);
        if let Some(retry) = self.retry {
            let value = if retry { "true" } else { "false" };
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(SHOULD_RETRY, value);
        }
        match self.counted {
            true => accepted(response),
            false => response,
        }
    }
}

/// Marks an answer to a caller whom the database let through: its status is no refusal of an address.
pub(super) fn accepted(mut response: Response) -> Response {
    response.extensions_mut().insert(Accepted);
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    async fn refusal(status: u16, code: &str) -> ApiError {
        let body = json!({"code": code, "message": "m", "details": "d", "hint": null});
        let response = Response::builder()
            .status(status)
            .header("retry-after", "7");
        ApiError::of_api(response.body(Body::from(body.to_string())).unwrap()).await
    }

    #[tokio::test]
    async fn a_spent_budget_is_not_tried_again_and_a_rate_is() {
        for (status, code, kind, retry) in [
            (429, "budget_exceeded", "insufficient_quota", Some("false")),
            (429, "quota_exceeded", "insufficient_quota", Some("false")),
            (429, "rate_limited", "rate_limit_error", None),
            (403, "model_not_allowed", "permission_error", None),
            (401, "not_identified", "authentication_error", None),
            (422, "invalid_input", "invalid_request_error", None),
        ] {
            let error = refusal(status, code).await;
            assert_eq!(error.body()["error"]["type"], kind, "{code}");
            assert_eq!(error.body()["error"]["message"], "m: d");
            let response = error.into_response();
            assert_eq!(response.status(), status);
            let header = response.headers().get("x-should-retry");
            assert_eq!(header.map(|it| it.to_str().unwrap()), retry, "{code}");
            assert_eq!(response.headers()["retry-after"], "7");
            assert_eq!(response.headers()["content-type"], "application/json");
        }
    }

    #[test]
    fn room_may_come_for_what_calls_hold_and_not_for_what_a_message_names() {
        for (code, resource, message, passes) in [
            ("budget_exceeded", None, "budget", true),
            ("quota_exceeded", Some("llm_tokens"), "", true),
            ("quota_exceeded", Some("llm_cost_microusd"), "", true),
            ("quota_exceeded", Some("api_requests"), "llm_tokens", false),
            ("quota_exceeded", None, "llm_tokens", false),
            ("rate_limited", Some("llm_tokens"), "", false),
        ] {
            let mut error = ApiError::new(429, code, message);
            if let Some(resource) = resource {
                let value = HeaderValue::from_static(resource);
                error.headers.insert(RESOURCE, value);
            }
            assert_eq!(error.may_pass(), passes, "{code} {resource:?}");
        }
    }

    #[test]
    fn a_vendors_refusal_of_its_key_is_no_401() {
        let error = LlmError::new(LlmFault::Auth, "no");
        let error = ApiError::of_vendor(&error);
        assert_eq!((error.status.as_u16(), error.retry), (502, Some(false)));
        let error = ApiError::of_vendor(&LlmError::new(LlmFault::ContextTooLong, "long"));
        assert_eq!(error.body()["error"]["code"], "context_length_exceeded");
    }

    #[test]
    fn our_own_faults_say_nothing_of_their_cause() {
        let cause = "password=hunter2".to_owned();
        let error = ApiError::from(Error::Internal { cause });
        assert_eq!(error.status.as_u16(), 500);
        assert!(!error.body().to_string().contains("hunter2"));
    }
}
