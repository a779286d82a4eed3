//! Stripe's API: form bodies, a pinned version, an idempotency key for each change, and repetition of what may be repeated.

use std::time::Duration;

use kijko_core::{
    backoff::Backoff,
    outbound::{Client, Limits, OutboundError, retry_after},
    secret::Secret,
    telemetry::canonical,
};
use reqwest::{Method, header::HeaderMap};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;

use super::config::Account;
use crate::service::SERVICE;

/// The version that the shapes here are of. `tests/journeys/billing_interface.test.mjs` compares it with Stripe's published one.
pub(super) const API_VERSION: &str = "2026-10-28.endive";

const LIMITS: Limits = Limits {
    connect_timeout: Duration::from_secs(5),
    total_timeout: Duration::from_secs(10),
    idle_timeout: Duration::from_secs(10),
    max_bytes: 4 << 20,
};
const MAX_ATTEMPTS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(300);
const MAX_PAUSE: Duration = Duration::from_secs(3);

/// Why Stripe did not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum StripeError {
    /// Stripe refused.
    #[error("Stripe refused with {status} {kind} {code}: {message}")]
    Refused {
        status: u16,
        /// Such as `card_error` or `invalid_request_error`.
        kind: String,
        /// Such as `resource_missing`.
        code: String,
        message: String,
    },
    /// No answer that can be used, after all attempts.
    #[error("Stripe gave no answer: {0}")]
    Unanswered(String),
}

impl StripeError {
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "resource_missing")
    }
}

#[derive(Debug, Default, Deserialize)]
struct ErrorBody {
    #[serde(default)]
    error: ErrorDetails,
}

#[derive(Debug, Default, Deserialize)]
struct ErrorDetails {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The client.
#[derive(Debug, Clone)]
pub(crate) struct Stripe {
    client: Client,
    api_url: String,
    key: Secret,
}

/// What one attempt came to.
enum Attempt {
    Answer(Vec<u8>),
    Again(StripeError, Option<Duration>),
    Failed(StripeError),
}

impl Stripe {
    pub(crate) fn new(account: &Account) -> Result<Self, OutboundError> {
        Ok(Self {
            client: Client::new(SERVICE, LIMITS)?,
            api_url: account.api_url.clone(),
            key: account.key.clone(),
        })
    }

    /// Reads something.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        parameters: &impl Serialize,
    ) -> Result<T, StripeError> {
        let query = encode(parameters)?;
        let path = match query.is_empty() {
            true => path.to_owned(),
            false => format!("{path}?{query}"),
        };
        self.call(Method::GET, &path, None, None).await
    }

    /// Changes something. Of two calls with one key, Stripe does the first and repeats its answer to the second.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        parameters: &impl Serialize,
        idempotency_key: &str,
    ) -> Result<T, StripeError> {
        let form = encode(parameters)?;
        self.call(Method::POST, path, Some(form), Some(idempotency_key))
            .await
    }

    /// Deletes something.
    pub(super) async fn delete(&self, path: &str) -> Result<Value, StripeError> {
        self.call(Method::DELETE, path, None, None).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        form: Option<String>,
        idempotency_key: Option<&str>,
    ) -> Result<T, StripeError> {
        let mut backoff = Backoff::new(FIRST_PAUSE, MAX_PAUSE);
        let mut attempt = 1;
        let body = loop {
            let outcome = self
                .attempt(&method, path, form.as_deref(), idempotency_key)
                .await;
            let (error, pause) = match outcome {
                Attempt::Answer(body) => break body,
                Attempt::Failed(error) => return Err(error),
                Attempt::Again(error, pause) => (error, pause),
            };
            if attempt == MAX_ATTEMPTS {
                return Err(error);
            }
            let pause = pause.unwrap_or_else(|| backoff.next_delay());
            tokio::time::sleep(pause.min(MAX_PAUSE)).await;
            attempt += 1;
        };
        canonical::add("stripe_attempts", attempt);
        serde_json::from_slice(&body)
            .map_err(|error| StripeError::Unanswered(format!("unexpected: {error}")))
    }

    async fn attempt(
        &self,
        method: &Method,
        path: &str,
        form: Option<&str>,
        idempotency_key: Option<&str>,
    ) -> Attempt {
        let mut request = self
            .client
            .request(method.clone(), format!("{}{path}", self.api_url))
            .bearer_auth(self.key.expose())
            .header("Stripe-Version", API_VERSION);
        if let Some(key) = idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(form) = form {
            request = request
                .header("Content-Type", "application/x-www-form-urlencoded")
                .body(form.to_owned());
        }
        let unanswered =
            |error: OutboundError| Attempt::Again(StripeError::Unanswered(error.to_string()), None);
        let answer = match self.client.send(request).await {
            Ok(answer) => answer,
            Err(error) => return unanswered(error),
        };
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = match answer.bytes().await {
            Ok(body) => body,
            Err(error) => return unanswered(error),
        };
        if (200..300).contains(&status) {
            return Attempt::Answer(body);
        }
        let error = serde_json::from_slice::<ErrorBody>(&body).unwrap_or_default();
        let error = error.error;
        let again = may_repeat(status, &headers);
        let refused = StripeError::Refused {
            status,
            kind: error.kind,
            code: error.code,
            message: self.key.redact(&error.message),
        };
        match again {
            true => Attempt::Again(refused, retry_after(&headers)),
            false => Attempt::Failed(refused),
        }
    }
}

/// As Stripe's own libraries decide it.
fn may_repeat(status: u16, headers: &HeaderMap) -> bool {
    match headers.get("stripe-should-retry").map(|it| it.as_bytes()) {
        Some(b"true") => true,
        Some(b"false") => false,
        // 409: two requests at once. Also one with the same key that is still under way, as after an attempt without an answer.
        _ => status == 409 || status == 429 || status >= 500,
    }
}

/// An idempotency key of a call that nobody else repeats.
pub(super) fn new_key() -> String {
    format!("kijko-{}", Uuid::new_v4())
}

fn encode(parameters: &impl Serialize) -> Result<String, StripeError> {
    let value = serde_json::to_value(parameters)
        .map_err(|error| StripeError::Unanswered(format!("parameters: {error}")))?;
    Ok(form(&value))
}

/// Parameters as Stripe takes them: `items[0][price]=…`. Null is left out.
pub(super) fn form(value: &Value) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    append(&mut form, "", value);
    form.finish()
}

fn append(form: &mut form_urlencoded::Serializer<'_, String>, name: &str, value: &Value) {
    let below = |key: &str| match name.is_empty() {
        true => key.to_owned(),
        false => format!("{name}[{key}]"),
    };
    match value {
        Value::Null => {}
        Value::Object(members) => {
            for (key, value) in members {
                append(form, &below(key), value);
            }
        }
        Value::Array(values) => {
            for (place, value) in values.iter().enumerate() {
                append(form, &below(&place.to_string()), value);
            }
        }
        Value::String(text) => {
            form.append_pair(name, text);
        }
        other => {
            form.append_pair(name, &other.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parameters_are_nested_by_brackets() {
        let value = json!({
            "mode": "subscription", "left_out": null, "quantity": 3, "enabled": false,
            "items": [{"price": "p_1", "tax": ["a", "b"]}], "metadata": {"org id": "é&="}
        });
        assert_eq!(
            form(&value),
            "mode=subscription&quantity=3&enabled=false&items%5B0%5D%5Bprice%5D=p_1\
             &items%5B0%5D%5Btax%5D%5B0%5D=a&items%5B0%5D%5Btax%5D%5B1%5D=b\
             &metadata%5Borg+id%5D=%C3%A9%26%3D"
        );
        assert_eq!(form(&json!({})), "");
    }

    #[test]
    fn only_what_may_pass_is_repeated() {
        let none = HeaderMap::new();
        for (status, again) in [
            // Also a key that was used with other parameters.
            (400, false),
            (401, false),
            (402, false),
            (404, false),
            (409, true),
            (429, true),
            (500, true),
            (503, true),
        ] {
            assert_eq!(may_repeat(status, &none), again, "{status}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("stripe-should-retry", "false".parse().unwrap());
        assert!(!may_repeat(503, &headers));
        headers.insert("stripe-should-retry", "true".parse().unwrap());
        assert!(may_repeat(400, &headers));
    }
}
