//! The caller of a request, as the database gets it.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, Method, Uri, request::Parts},
};
use kijko_core::http::headers::selected;
use serde_json::{Map, Value, json};

use crate::error::{StorageError, refusal};

/// Headers that policies and limits may see. None of the others reaches a statement.
const VISIBLE: [&str; 7] = [
    "origin",
    "user-agent",
    "x-forwarded-for",
    "x-org-id",
    "x-request-id",
    "x-api-key",
    "x-client-info",
];

/// A request with a token or an API key, not yet verified.
#[derive(Debug, Clone)]
pub struct Caller {
    token: Option<String>,
    method: String,
    path: String,
    headers: Map<String, Value>,
}

impl Caller {
    /// The holder of a signed URL. Nothing in the request says who they are.
    pub fn holder(method: &Method, uri: &Uri, headers: &HeaderMap) -> Self {
        let mut headers = selected(headers, &VISIBLE);
        headers.remove("x-api-key");
        headers.remove("x-org-id");
        Self {
            token: None,
            method: method.to_string(),
            path: format!("/storage/v1{}", uri.path()),
            headers,
        }
    }

    /// What `storage_service.call()` takes; `operation` is upstream's name, which policies may ask for.
    pub fn request(&self, operation: &str) -> Value {
        json!({
            "token": self.token,
            "method": self.method,
            "path": self.path,
            "headers": self.headers,
            "operation": operation,
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = StorageError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let headers = selected(&parts.headers, &VISIBLE);
        let token = bearer(&parts.headers);
        if token.is_none() && !headers.contains_key("x-api-key") {
            let message = "headers must have required property 'authorization'";
            return Err(refusal("InvalidRequest", 400, "Error", message));
        }
        Ok(Self {
            token,
            method: parts.method.to_string(),
            path: format!("/storage/v1{}", parts.uri.path()),
            headers,
        })
    }
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("authorization")?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    // Keys of other kinds come beside the one that counts.
    (scheme.eq_ignore_ascii_case("bearer") && !token.starts_with("sb_"))
        .then(|| token.trim().to_owned())
}
