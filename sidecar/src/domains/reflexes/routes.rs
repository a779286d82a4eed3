//! `POST /webhooks/reflex/{id}` and `POST /webhooks/github/{repository_id}`. 202: the delivery is stored. 4xx: the sender's fault, which sending again does not mend (429:
//! later). 5xx: our fault, and senders try again.
//!
//! A reflex or repository that does not exist and a signature that is wrong get one answer, so that nobody learns which reflexes there are.

use std::{sync::Arc, time::SystemTime};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use kijko_core::{db::DbError, error::Error, http::extract::body, telemetry::canonical};
use serde::Serialize;
use uuid::Uuid;

use super::{
    delivery::Delivery,
    lines::Lines,
    metrics::ReflexSeries,
    signature::{self, Rejection},
    store::{Receipt, Store, Verifier},
};

/// What the route needs.
#[derive(Clone)]
pub(super) struct Webhook {
    pub store: Store,
    pub max_body_bytes: usize,
    pub series: Arc<ReflexSeries>,
    pub lines: Arc<Lines>,
}

/// For the person who reads the delivery at the sender.
#[derive(Debug, Serialize)]
struct Received {
    delivery_id: Uuid,
    status: String,
}

pub(super) fn routes(webhook: Webhook) -> Router {
    Router::new()
        .route("/webhooks/reflex/{id}", post(receive))
        .route("/webhooks/github/{repository_id}", post(receive_github))
        .with_state(webhook)
}

async fn receive(
    State(webhook): State<Webhook>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Received>), Error> {
    let body = body::read(body, webhook.max_body_bytes).await?;
    let id = id.parse().unwrap_or_default();
    canonical::add("reflex_id", Uuid::to_string(&id));
    let verifier = webhook.verify(id, &headers, &body).await?;
    let Some(delivery) = Delivery::read(&verifier.verification, &headers, &body) else {
        return Err(webhook.malformed());
    };
    let received = webhook.ingest(id, &delivery).await?;
    Ok((StatusCode::ACCEPTED, Json(received)))
}

async fn receive_github(
    State(webhook): State<Webhook>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Received>), Error> {
    let body = body::read(body, webhook.max_body_bytes).await?;
    let id = id.parse().unwrap_or_default();
    canonical::add("repository_id", Uuid::to_string(&id));
    let verifier = webhook.store.repository_verifier(id).await?;
    webhook
        .check(&verifier, &headers, &body)
        .map_err(rejected)?;
    let Some(delivery) = Delivery::read(&verifier.verification, &headers, &body) else {
        return Err(webhook.malformed());
    };
    let _turn = webhook.lines.wait(id).await?;
    let receipt = webhook.store.ingest_github(id, &delivery).await;
    let received = webhook.received(receipt)?;
    Ok((StatusCode::ACCEPTED, Json(received)))
}

impl Webhook {
    async fn verify(&self, id: Uuid, headers: &HeaderMap, body: &[u8]) -> Result<Verifier, Error> {
        let rejection = match self.store.verifier(id).await? {
            None => self.reject(signature::decoy(body)),
            Some(verifier) => match self.check(&verifier, headers, body) {
                Ok(()) => return Ok(verifier),
                Err(rejection) => rejection,
            },
        };
        // The answer does not depend on it.
        if let Err(error) = self.store.rejected(id).await {
            tracing::debug!(%error, "a rejected request was not counted");
        }
        Err(rejected(rejection))
    }

    fn check(
        &self,
        verifier: &Verifier,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<(), Rejection> {
        let Verifier {
            verification,
            secrets,
        } = verifier;
        signature::verify(verification, headers, body, secrets, SystemTime::now())
            .map_err(|rejection| self.reject(rejection))
    }

    fn reject(&self, rejection: Rejection) -> Rejection {
        self.series.rejected(rejection.reason());
        canonical::add("reflex_rejected", rejection.reason());
        rejection
    }

    fn malformed(&self) -> Error {
        self.series.rejected("malformed");
        Error::BadRequest("the body is not JSON that can be stored".to_owned())
    }

    async fn ingest(&self, id: Uuid, delivery: &Delivery) -> Result<Received, Error> {
        let _turn = self.lines.wait(id).await?;
        self.received(self.store.ingest(id, delivery).await)
    }

    fn received(&self, receipt: Result<Receipt, DbError>) -> Result<Received, Error> {
        let receipt = match receipt {
            Err(error) if error.is_about_the_data() => return Err(self.malformed()),
            receipt => receipt?,
        };
        match receipt {
            Receipt::Stored { id, status } => {
                self.series.delivery(&status);
                canonical::add("reflex_delivery_id", id.to_string());
                canonical::add("reflex_outcome", status.as_str());
                Ok(Received {
                    delivery_id: id,
                    status,
                })
            }
            Receipt::RateLimited { retry_after } => {
                self.series.delivery("rate_limited");
                Err(Error::RateLimited {
                    details: Some("more deliveries than this reflex takes".to_owned()),
                    headers: vec![("Retry-After".to_owned(), retry_after.to_string())],
                })
            }
            Receipt::Gone => Err(rejected(Rejection::Mismatch)),
        }
    }
}

fn rejected(rejection: Rejection) -> Error {
    Error::InvalidSignature(explain(rejection).to_owned())
}

fn explain(rejection: Rejection) -> &'static str {
    match rejection {
        Rejection::Mismatch => "there is no such webhook, or its secret has not made the signature",
        Rejection::OutOfTime => {
            "the signature's timestamp is more than 300 seconds away from this server's clock"
        }
    }
}
