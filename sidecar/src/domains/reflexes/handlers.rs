//! Jobs of the kind `reflex_delivery`: filter a delivery, map it, and let the database queue its execution.

use std::sync::Arc;

use kijko_core::{
    db::DbError,
    jobs::{Failure, Handler, HandlerError, Job, JobClass, JobKind, Queue},
    telemetry::canonical,
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{metrics::ReflexSeries, store::Store};
use crate::sandbox::{Mapped, MappingRequest, PromptError, Sandbox};

/// The payload of such a job.
#[derive(Debug, Deserialize)]
pub(super) struct DeliveryJob {
    /// The delivery.
    pub delivery_id: Uuid,
}

impl JobKind for DeliveryJob {
    const KIND: &'static str = "reflex_delivery";
    const CLASS: JobClass = JobClass::Short;
}

/// Processes deliveries.
pub(super) struct DeliveryHandler {
    pub store: Store,
    pub sandbox: Sandbox,
    pub series: Arc<ReflexSeries>,
}

impl Handler for DeliveryHandler {
    type Payload = DeliveryJob;

    async fn run(
        &self,
        queue: &Queue,
        job: &Job,
        payload: DeliveryJob,
    ) -> Result<Value, HandlerError> {
        canonical::add("reflex_delivery_id", payload.delivery_id.to_string());
        let work = queue
            .begin(|| self.store.start(queue, job))
            .await?
            .ok_or(HandlerError::Superseded)?;
        let Some(variables) = work.variables else {
            return Ok(json!({}));
        };
        let request = MappingRequest {
            filter: work.filter,
            mapping: work.mapping,
            variables,
        };
        let mapped = match self.sandbox.map(&request).await {
            Ok(mapped) => mapped,
            Err(PromptError::Sandbox(cause)) => {
                tracing::error!(cause, "the sandbox failed");
                return Err(Failure::internal().into());
            }
            // It took too much time or memory: the author's fault.
            Err(error) => Mapped::Failed {
                code: "mapping_error".to_owned(),
                message: error.to_string(),
            },
        };
        self.series.mapped(&mapped);
        Ok(json!(mapped))
    }

    async fn record_success(
        &self,
        queue: &Queue,
        job: &Job,
        outcome: &Value,
    ) -> Result<bool, DbError> {
        self.store.finish(queue, job, outcome).await
    }
}
