//! Calls that jobs of other domains make: by a ticket that the database gave the job, and then as every other call, with its route,
//! retries, settlement and span.

use std::sync::Arc;

use axum::http::HeaderMap;
use kijko_core::{Context, config::Reader, db::carried, domain::Background};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    call::Call,
    chat::{Chat, MAX_WEIGHT},
    config::GatewayConfig,
    embeddings::Embeddings,
    error::ApiError,
    gateway::Gateway,
    images::Images,
    opening::Grant,
    output::Reply,
    request::Request,
    span::Place,
    store::Store,
};
use crate::llm::weight;

/// The settings of such calls: those of the gateway.
pub(crate) struct JobCallsConfig(GatewayConfig);

/// Calls models for jobs.
#[derive(Clone)]
pub(crate) struct JobCalls {
    gateway: Arc<Gateway>,
}

/// Why there is no answer. Code and message are shown to the organization.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub code: String,
    pub message: String,
}

impl JobCallsConfig {
    /// Reads what the gateway reads; a problem is reported once.
    pub(crate) fn read(env: &mut Reader<'_>) -> Self {
        Self(GatewayConfig::read(env))
    }
}

impl JobCalls {
    pub(crate) fn new(config: &JobCallsConfig, context: &Context) -> Result<Self, String> {
        let store = Arc::new(Store::new(context.db.clone()));
        let gateway = Gateway::new(&config.0, None, store, context.tracer.clone())?;
        Ok(Self {
            gateway: Arc::new(gateway),
        })
    }

    /// Settles what goes on when the process stops.
    pub(crate) fn stopping(&self, context: &Context) -> Background {
        self.gateway.clone().stopping(context.shutdown_grace)
    }

    /// The text that a model answers to a request in OpenAI's shape.
    pub(crate) async fn chat(
        &self,
        org: Uuid,
        ticket: String,
        request: &Value,
    ) -> Result<String, Refused> {
        let read = |body: &[u8]| Chat::read(body).map(Request::Chat);
        let whole = self.call(org, ticket, request, read).await?;
        let text = whole.pointer("/choices/0/message/content");
        Ok(text.and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    /// The file of an image, in base64.
    pub(crate) async fn image(
        &self,
        org: Uuid,
        ticket: String,
        request: &Value,
    ) -> Result<String, Refused> {
        let read = |body: &[u8]| Images::read(body).map(Request::Images);
        let whole = self.call(org, ticket, request, read).await?;
        let file = whole.pointer("/data/0/b64_json").and_then(Value::as_str);
        file.map(str::to_owned).ok_or_else(|| Refused {
            code: "vendor_malformed".to_owned(),
            message: "the model answered with the address of an image, and not with the image"
                .to_owned(),
        })
    }

    /// Vectors of texts, in their order.
    pub(crate) async fn embeddings(
        &self,
        org: Uuid,
        ticket: String,
        request: &Value,
    ) -> Result<Vec<Value>, Refused> {
        let read = |body: &[u8]| Embeddings::read(body).map(Request::Embeddings);
        let whole = self.call(org, ticket, request, read).await?;
        let data = whole.get("data").and_then(Value::as_array);
        let vectors = data.map(|data| data.iter().map(|it| it["embedding"].clone()).collect());
        Ok(vectors.unwrap_or_default())
    }

    /// A call and its whole answer. A job that is dropped hangs up: what was used until then is settled.
    async fn call(
        &self,
        org: Uuid,
        ticket: String,
        request: &Value,
        read: impl FnOnce(&[u8]) -> Result<Request, ApiError>,
    ) -> Result<Value, Refused> {
        let body = request.to_string();
        let request = read(body.as_bytes()).map_err(Refused::from)?;
        let room = self.gateway.bodies.enter(org);
        let mut room = room.ok_or_else(|| Refused::from(ApiError::crowded("calls")))?;
        let size = body.len() + weight(body.as_bytes()).min(MAX_WEIGHT);
        room.grow(size).await.map_err(Refused::from)?;
        let (kept, _share) = room.into_permits();
        let gone = CancellationToken::new();
        let _hangs_up = gone.clone().drop_guard();
        let call = Call {
            gateway: self.gateway.clone(),
            request,
            place: Place::of(&HeaderMap::new()),
            gone,
            kept,
            // The job may record what the call cost.
            settles_first: true,
        };
        let (reply, answer) = oneshot::channel();
        let grant = Grant::Ticket(ticket);
        let call = carried(call.run(grant, reply));
        self.gateway.tasks.spawn(call);
        match answer.await {
            Ok(Reply::Whole(whole)) => Ok(whole),
            Ok(Reply::Failed(error)) => Err(Refused::from(*error)),
            Ok(Reply::Stream(_)) | Err(_) => Err(Refused {
                code: "internal".to_owned(),
                message: "the call ended without an answer".to_owned(),
            }),
        }
    }
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self {
            code: error.code,
            message: error.message,
        }
    }
}
