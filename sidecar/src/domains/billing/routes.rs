//! `POST /functions/v1/billing-*`. The API says who the caller is and what they may; the ticket has the parameters for Stripe.

use axum::{
    Json, Router,
    body::Body,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use kijko_core::{error::Error, http::extract::body, telemetry::canonical};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    client::StripeError,
    operations::{Failure, Operations},
};
use crate::api::{Api, NotGranted};

const MAX_BODY_BYTES: usize = 64 << 10;
const MAX_KEY_BYTES: usize = 100;

/// What the routes need.
#[derive(Clone)]
pub(super) struct Billing {
    /// None: not configured.
    pub api: Option<Api>,
    /// None: there is no account.
    pub operations: Option<Operations>,
}

/// What `public.authorize_billing` answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Authorized {
    Ticket(String),
    Answer(Value),
}

/// Each with the action of `public.authorize_billing`.
pub(super) fn routes(billing: &Billing) -> Router {
    let on = |action: &'static str| {
        let billing = billing.clone();
        post(move |headers: HeaderMap, body: Body| async move {
            billing.answer(action, &headers, body).await
        })
    };
    Router::new()
        .route("/functions/v1/billing-checkout", on("checkout"))
        .route("/functions/v1/billing-portal", on("portal"))
        .route("/functions/v1/billing-preview", on("preview"))
        .route("/functions/v1/billing-change", on("change"))
        .route("/functions/v1/billing-cancel", on("cancel"))
        .route("/functions/v1/billing-resume", on("resume"))
        .route(
            "/functions/v1/billing-payment-methods",
            on("payment_methods"),
        )
        .route("/functions/v1/billing-invoices", on("invoices"))
        .route("/functions/v1/billing-usage", on("usage"))
}

impl Billing {
    async fn answer(
        &self,
        action: &'static str,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Refusal> {
        let api = Api::configured(self.api.as_ref())?;
        canonical::add("billing_action", action);
        let arguments = arguments(&body::read(body, MAX_BODY_BYTES).await?)?;
        let key = idempotency_key(headers)?;
        let question = json!({"action": action, "arguments": arguments});
        let granted = api.call::<Authorized>("authorize_billing", headers, &question);
        let (authorized, limits) = granted.await?;
        let ticket = match authorized {
            Authorized::Answer(answer) => return Ok((limits, Json(answer)).into_response()),
            Authorized::Ticket(ticket) => ticket,
        };
        let Some(operations) = &self.operations else {
            return Err(Error::NotConfigured("STRIPE_API_KEY is not set").into());
        };
        let answer = operations.run(action, &ticket, key.as_deref()).await?;
        Ok((limits, Json(answer)).into_response())
    }
}

/// Of an empty body there are none.
fn arguments(body: &[u8]) -> Result<Value, Error> {
    if body.is_empty() {
        return Ok(json!({}));
    }
    let value: Value = body::json(body)?;
    match value.is_object() {
        true => Ok(value),
        false => Err(Error::BadRequest("the body: must be an object".to_owned())),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let visible = |it: &&str| {
        (1..=MAX_KEY_BYTES).contains(&it.len()) && it.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match value.to_str().ok().filter(visible) {
        Some(key) => Ok(Some(key.to_owned())),
        None => Err(Error::BadRequest(format!(
            "Idempotency-Key: 1 to {MAX_KEY_BYTES} visible characters"
        ))),
    }
}

/// Why there is no answer.
enum Refusal {
    /// The API's own refusal, or a fault.
    NotGranted(NotGranted),
    /// The means of payment was refused; the words are for the payer.
    Payment(String),
    /// What was read a moment ago is no longer so at Stripe.
    Conflict,
}

#[derive(Serialize)]
struct Refused {
    code: &'static str,
    message: &'static str,
    details: Option<String>,
    hint: Option<&'static str>,
}

impl From<NotGranted> for Refusal {
    fn from(not_granted: NotGranted) -> Self {
        Self::NotGranted(not_granted)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        NotGranted::from(error).into()
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let error = match failure {
            Failure::Error(error) => return error.into(),
            Failure::Paid => return Self::Conflict,
            Failure::Stripe(error) => error,
        };
        match &error {
            StripeError::Refused { kind, message, .. } if kind == "card_error" => {
                return Self::Payment(message.clone());
            }
            StripeError::Refused { code, status, .. }
                if *status == 409 || code == "resource_missing" || *status == 400 =>
            {
                tracing::warn!(%error, "Stripe refused what the database asked for");
                return Self::Conflict;
            }
            StripeError::Refused { status: 429, .. } => {}
            StripeError::Refused { status, .. } if *status < 500 => {
                return Self::from(Error::Internal {
                    cause: error.to_string(),
                });
            }
            _ => {}
        }
        Self::from(Error::Unavailable {
            cause: error.to_string(),
        })
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, body) = match self {
            Self::NotGranted(not_granted) => return not_granted.into_response(),
            Self::Payment(details) => (
                StatusCode::PAYMENT_REQUIRED,
                Refused {
                    code: "payment_failed",
                    message: "the payment was refused",
                    details: Some(details),
                    hint: Some("use another means of payment"),
                },
            ),
            Self::Conflict => (
                StatusCode::CONFLICT,
                Refused {
                    code: "conflict",
                    message: "this conflicts with what Stripe has",
                    details: None,
                    hint: Some("read the subscription again"),
                },
            ),
        };
        let json = [(header::CONTENT_TYPE, "application/json")];
        (status, json, Json(body)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_an_object_that_can_be_stored() {
        assert_eq!(arguments(b"").unwrap(), json!({}));
        for good in [r#"{"plan": "PRO"}"#, r#"{"comment": "\\u0000"}"#] {
            assert!(arguments(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in [
            "[]",
            "1",
            "{",
            "{\"plan\": \"\\u0000\"}",
            "{\"\\u0000\": 1}",
        ] {
            assert_eq!(
                arguments(bad.as_bytes()).err().map(|it| it.code()),
                Some("bad_request"),
                "{bad}"
            );
        }
    }

    #[test]
    fn what_stripe_says_becomes_an_error_of_the_api() {
        let refused = |status: u16, kind: &str, code: &str| {
            let refusal: Refusal = Failure::Stripe(StripeError::Refused {
                status,
                kind: kind.to_owned(),
                code: code.to_owned(),
                message: "hidden".to_owned(),
            })
            .into();
            refusal.into_response().status().as_u16()
        };
        assert_eq!(refused(402, "card_error", "card_declined"), 402);
        assert_eq!(
            refused(404, "invalid_request_error", "resource_missing"),
            409
        );
        assert_eq!(
            refused(400, "invalid_request_error", "parameter_unknown"),
            409
        );
        assert_eq!(refused(401, "invalid_request_error", ""), 500);
        assert_eq!(refused(429, "", "rate_limit"), 503);
        assert_eq!(refused(500, "api_error", ""), 503);
    }
}
