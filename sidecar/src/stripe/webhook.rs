//! `POST /webhooks/stripe`. 2xx means: stored, for good. 4xx is the sender's fault and does not get better; 5xx is ours,
//! and Stripe sends the event again.

use std::time::{Instant, SystemTime};

use axum::{Json, body::Body, extract::State, http::HeaderMap};
use serde::Serialize;

use super::{events, signature};
use crate::{
    error::Error,
    http::{AppState, body},
    telemetry::Sparse,
};

const SIGNATURE: &str = "stripe-signature";
static REFUSALS: Sparse = Sparse::new();

/// For whoever reads the delivery in Stripe's dashboard.
#[derive(Debug, Serialize)]
pub(crate) struct Received {
    received: bool,
    status: String,
    duplicate: bool,
    error_code: Option<String>,
}

pub(crate) async fn receive(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Received>, Error> {
    let secrets = &state.stripe.webhook_secrets;
    if secrets.is_empty() {
        return Err(Error::NotConfigured("STRIPE_WEBHOOK_SECRET is not set"));
    }
    let body = body::read(body, state.http.max_body_bytes).await?;
    let header = headers.get(SIGNATURE).and_then(|value| value.to_str().ok());
    signature::verify(header, &body, secrets, SystemTime::now()).map_err(|rejection| {
        state.metrics.stripe.rejected(rejection.reason());
        if let Some(left_out) = REFUSALS.due(Instant::now()) {
            let reason = rejection.reason();
            tracing::warn!(reason, left_out, "a Stripe delivery was refused");
        }
        Error::InvalidSignature(rejection.to_string())
    })?;
    let event = std::str::from_utf8(&body)
        .ok()
        .and_then(|text| events::Event::parse(text).map(|event| (event, text)));
    let Some((event, text)) = event else {
        state.metrics.stripe.rejected("malformed");
        return Err(Error::BadRequest("not a Stripe event".to_owned()));
    };

    let done = match events::ingest(&state.db, text).await {
        Err(error) if error.is_about_the_data() => {
            state.metrics.stripe.rejected("malformed");
            tracing::error!(event = event.id, kind = event.kind, %error, "a Stripe event cannot be stored");
            return Err(Error::BadRequest("not a Stripe event".to_owned()));
        }
        done => done?,
    };
    let outcome = if done.duplicate {
        "duplicate"
    } else {
        &done.status
    };
    state.metrics.stripe.event(&event.kind, outcome);
    if done.status == "failed" {
        tracing::error!(
            event = event.id,
            kind = event.kind,
            code = done.error_code,
            "a Stripe event could not be applied; it is kept and tried again (./kijko stripe)"
        );
    } else {
        tracing::info!(event = event.id, kind = event.kind, outcome, "Stripe event");
    }
    Ok(Json(Received {
        received: true,
        status: done.status,
        duplicate: done.duplicate,
        error_code: done.error_code,
    }))
}
