//! The caller of a request, as the database gets it.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, Method, Uri, request::Parts},
};
use kijko_core::http::headers::{bearer, selected};
use serde_json::{Map, Value, json};

use crate::error::{StorageError, refusal};

/// The token of an outside issuer. Only the proxy sets this header; the database verifies the token, and nothing later sees it.
const ISSUER_TOKEN: &str = "x-kijko-token";

/// Headers that policies and limits may see. None of the others reaches a statement.
const VISIBLE: [&str; 9] = [
    "origin",
    "user-agent",
    "x-forwarded-for",
    "x-org-id",
    "x-request-id",
    "x-api-key",
    "x-client-info",
    // The proxy's id of the request: under it the database notes the caller.
    "x-kijko-request",
    ISSUER_TOKEN,
];

/// Headers that say who calls.
const IDENTITIES: [&str; 2] = ["x-api-key", ISSUER_TOKEN];

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
        for name in IDENTITIES {
            headers.remove(name);
        }
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
        if token.is_none() && !IDENTITIES.iter().any(|name| headers.contains_key(*name)) {
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

#[cfg(test)]
mod tests {
    use axum::{extract::Request, http::HeaderName};

    use super::*;

    const ALL: [(&str, &str); 4] = [
        ("x-api-key", "kjk_a"),
        ("x-kijko-token", "ey.a.b"),
        ("x-org-id", "id"),
        ("user-agent", "test"),
    ];

    async fn of(headers: &[(&'static str, &str)]) -> Result<Value, String> {
        let mut request = Request::get("/object/b/a").body(()).unwrap();
        for (name, value) in headers {
            let name = HeaderName::from_static(name);
            request.headers_mut().append(name, value.parse().unwrap());
        }
        let (mut parts, ()) = request.into_parts();
        let caller = Caller::from_request_parts(&mut parts, &()).await;
        caller
            .map(|caller| caller.request("x"))
            .map_err(|error| error.code.into_owned())
    }

    #[tokio::test]
    async fn a_token_of_an_issuer_says_who_calls() {
        let request = of(&[("x-kijko-token", "ey.a.b")]).await.unwrap();
        assert_eq!(request["token"], Value::Null);
        assert_eq!(request["headers"]["x-kijko-token"], "ey.a.b");
        // The database refuses two tokens: see storage_service.enter().
        let both = of(&[
            ("x-kijko-token", "ey.a.b"),
            ("authorization", "Bearer ours"),
        ]);
        let both = both.await.unwrap();
        assert_eq!(both["token"], "ours");
        assert_eq!(both["headers"]["x-kijko-token"], "ey.a.b");
        assert_eq!(of(&[]).await, Err("InvalidRequest".to_owned()));
    }

    #[test]
    fn the_holder_of_a_signed_url_is_nobody() {
        let mut headers = HeaderMap::new();
        for (name, value) in ALL {
            headers.append(name, value.parse().unwrap());
        }
        let holder = Caller::holder(&Method::PUT, &Uri::from_static("/object"), &headers);
        assert_eq!(
            holder.request("x")["headers"],
            json!({ "user-agent": "test" })
        );
    }
}
