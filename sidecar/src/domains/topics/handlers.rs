//! Jobs of the kind `topic_discovery`.

use kijko_core::{
    db::DbError,
    jobs::{Failure, Handler, HandlerError, Job, JobKind, Queue},
    telemetry::canonical,
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    collect::{Collector, Outcome},
    store::Store,
};

/// The payload of such a job.
#[derive(Debug, Deserialize)]
pub(super) struct DiscoveryJob {
    /// The run.
    pub run_id: Uuid,
}

impl JobKind for DiscoveryJob {
    const KIND: &'static str = "topic_discovery";
    const HALF_OF_SLOTS: bool = true;
}

/// Collects.
pub(super) struct DiscoveryHandler {
    pub store: Store,
    pub collector: Collector,
}

impl Handler for DiscoveryHandler {
    type Payload = DiscoveryJob;

    async fn run(
        &self,
        queue: &Queue,
        job: &Job,
        payload: DiscoveryJob,
    ) -> Result<Value, HandlerError> {
        canonical::add("discovery_run_id", payload.run_id.to_string());
        let started = queue
            .begin(|| self.store.start(queue, job))
            .await?
            .ok_or(HandlerError::Superseded)?;
        let Some(work) = started.work else {
            return Ok(json!({}));
        };
        let is_last = job.attempt >= job.max_attempts;
        match self.collector.collect(&work).await {
            // A feed is asked again; what a vendor may have charged for is not.
            Outcome::Failed(failure, None) if failure.retryable && work.is_free() && !is_last => {
                Err(failure.into())
            }
            Outcome::Failed(failure, spent) => {
                canonical::add("discovery_error", failure.code.to_string());
                Ok(failed(&failure, spent))
            }
            Outcome::Found(found) => {
                canonical::add("discovery_items", found.items.len());
                Ok(json!(found))
            }
        }
    }

    async fn record_success(
        &self,
        queue: &Queue,
        job: &Job,
        outcome: &Value,
    ) -> Result<bool, DbError> {
        let recorded = self.store.finish(queue, job, outcome).await;
        match recorded {
            // What strangers wrote cannot be stored: the run ends all the same, and is paid.
            Err(error) if error.is_about_the_data() => {
                tracing::warn!(%error, "what a discovery found cannot be stored");
                let message = "what was found cannot be stored";
                let failure = Failure::permanent("document_invalid", message);
                let outcome = failed(&failure, outcome.get("spent").cloned());
                self.store.finish(queue, job, &outcome).await
            }
            recorded => recorded,
        }
    }
}

fn failed(failure: &Failure, spent: Option<Value>) -> Value {
    json!({"failed": {"code": failure.code, "message": failure.message}, "spent": spent})
}
