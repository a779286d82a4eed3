//! `POST /webhooks/stripe`. 2xx: the event is stored. 4xx: the sender's fault, which sending again does not mend. 5xx: our
//! fault, and Stripe sends the event again.

use std::{sync::Arc, time::SystemTime};

use axum::{Json, Router, body::Body, extract::State, http::HeaderMap, routing::post};
use kijko_core::{error::Error, http::extract::body, secret::Secret, telemetry::canonical};
use serde::Serialize;

use super::{batches::Batches, metrics::StripeSeries, store::Event};
use crate::stripe_signature as signature;

const SIGNATURE: &str = "stripe-signature";

/// What the route needs.
#[derive(Clone)]
pub(super) struct Webhook {
    pub batches: Arc<Batches>,
    /// Any of these may have signed a delivery. Without one the route is not configured.
    pub secrets: Arc<[Secret]>,
    pub max_body_bytes: usize,
    pub series: Arc<StripeSeries>,
}

/// For the person who reads the delivery in Stripe's dashboard.
#[derive(Debug, Serialize)]
struct Received {
    received: bool,
    status: String,
    duplicate: bool,
    error_code: Option<String>,
}

pub(super) fn routes(webhook: Webhook) -> Router {
    Router::new()
        .route("/webhooks/stripe", post(receive))
        .with_state(webhook)
}

async fn receive(
    State(webhook): State<Webhook>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Received>, Error> {
    if webhook.secrets.is_empty() {
        return Err(Error::NotConfigured("STRIPE_WEBHOOK_SECRET is not set"));
    }
    let body = body::read(body, webhook.max_body_bytes).await?;
    webhook.verify(&headers, &body)?;
    let event = std::str::from_utf8(&body)
        .ok()
        .and_then(|text| Event::parse(text).map(|event| (event, text)));
    let Some((event, text)) = event else {
        webhook.reject("malformed");
        return Err(Error::BadRequest("not a Stripe event".to_owned()));
    };
    canonical::add("stripe_event_id", event.id.as_str());
    canonical::add("stripe_event_type", event.kind.as_str());
    webhook.ingest(&event, text).await.map(Json)
}

impl Webhook {
    fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Error> {
        let header = headers.get(SIGNATURE).and_then(|value| value.to_str().ok());
        let verified = signature::verify(header, body, &self.secrets, SystemTime::now());
        verified.map_err(|rejection| {
            self.reject(rejection.reason());
            Error::InvalidSignature(rejection.to_string())
        })
    }

    fn reject(&self, reason: &'static str) {
        canonical::add("stripe_rejected", reason);
        self.series.rejected(reason);
    }

    async fn ingest(&self, event: &Event, text: &str) -> Result<Received, Error> {
        let ingested = match self.batches.ingest(text).await {
            Err(error) if error.is_about_the_data() => {
                self.reject("malformed");
                tracing::error!(event = event.id, kind = event.kind, %error, "a Stripe event cannot be stored");
                return Err(Error::BadRequest("not a Stripe event".to_owned()));
            }
            ingested => ingested?,
        };
        let outcome = match ingested.duplicate {
            true => "duplicate",
            false => &ingested.status,
        };
        self.series.event(&event.kind, outcome);
        canonical::add("stripe_outcome", outcome);
        if ingested.status == "failed" {
            canonical::add("stripe_error_code", ingested.error_code.clone());
            tracing::error!(
                event = event.id,
                kind = event.kind,
                code = ingested.error_code,
                "a Stripe event could not be applied; it is kept and retried (./kijko stripe)"
            );
        }
        Ok(Received {
            received: true,
            status: ingested.status,
            duplicate: ingested.duplicate,
            error_code: ingested.error_code,
        })
    }
}
