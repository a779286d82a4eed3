//! Jobs of the kind `topic_embedding`: a model turns the texts of sources into vectors.

use kijko_core::{
    db::DbError,
    jobs::{Failure, Handler, HandlerError, Job, JobKind, Queue},
    telemetry::canonical,
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::store::Store;
use crate::domains::llm::JobCalls;

/// The payload of such a job.
#[derive(Debug, Deserialize)]
pub(super) struct EmbeddingJob {
    /// The topic.
    pub topic_id: Uuid,
}

impl JobKind for EmbeddingJob {
    const KIND: &'static str = "topic_embedding";
    const HALF_OF_SLOTS: bool = true;
}

/// Embeds. The gateway has tried again before it says no, so a refusal ends the job. After a lost worker the job runs again, with a
/// call of its own; what has a vector by then is not embedded again.
pub(super) struct EmbeddingHandler {
    pub store: Store,
    pub models: JobCalls,
}

impl Handler for EmbeddingHandler {
    type Payload = EmbeddingJob;

    async fn run(
        &self,
        queue: &Queue,
        job: &Job,
        payload: EmbeddingJob,
    ) -> Result<Value, HandlerError> {
        canonical::add("topic_id", payload.topic_id.to_string());
        let started = queue.begin(|| self.store.start_embedding(queue, job));
        let Some(started) = started.await? else {
            return Ok(json!({ "embedded": [] }));
        };
        let started =
            started.map_err(|refusal| Failure::permanent(refusal.code, refusal.message))?;
        let (org, ticket) = (started.org_id, started.ticket);
        let vectors = self.models.embeddings(org, ticket, &started.request).await;
        let vectors =
            vectors.map_err(|refused| Failure::permanent(refused.code, refused.message))?;
        if vectors.len() != started.sources.len() {
            let message = "the model answered with another number of vectors";
            return Err(Failure::permanent("vendor_malformed", message).into());
        }
        canonical::add("vectors", vectors.len());
        let pairs = started.sources.into_iter().zip(vectors);
        let embedded = pairs.map(|(source, vector)| json!({"source": source, "vector": vector}));
        Ok(json!({ "embedded": embedded.collect::<Vec<Value>>() }))
    }

    /// The vectors, and the end of the job, in one transaction; then the scores, in another. pg_cron scores what is not scored here.
    async fn record_success(
        &self,
        queue: &Queue,
        job: &Job,
        result: &Value,
    ) -> Result<bool, DbError> {
        let recorded = self.store.finish_embedding(queue, job, result).await?;
        let topic = job.payload.get("topic_id").and_then(Value::as_str);
        if let (true, Some(Ok(topic))) = (recorded, topic.map(Uuid::parse_str))
            && let Err(error) = self.store.score_embedded(topic).await
        {
            tracing::warn!(%topic, %error, "a topic with new vectors is scored later");
        }
        Ok(recorded)
    }
}
