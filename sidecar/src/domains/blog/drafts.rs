//! Jobs of the kind `blog_draft`: a model writes an outline or a text.

use kijko_core::{
    db::DbError,
    jobs::{Handler, HandlerError, Job, JobKind, Queue},
    telemetry::canonical,
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::store::{Started, Store};
use crate::domains::llm::JobCalls;

/// The payload of a draft.
#[derive(Debug, Deserialize)]
pub struct DraftJob {
    /// The draft.
    pub draft_id: Uuid,
}

impl JobKind for DraftJob {
    const KIND: &'static str = "blog_draft";
    const HALF_OF_SLOTS: bool = true;
}

/// Has models write. The gateway has tried again and elsewhere before it says no, so a refusal ends the draft. After a lost worker
/// the job runs again, with a call of its own.
pub(super) struct DraftHandler {
    store: Store,
    models: JobCalls,
}

impl DraftHandler {
    pub(super) fn new(store: Store, models: JobCalls) -> Self {
        Self { store, models }
    }
}

impl Handler for DraftHandler {
    type Payload = DraftJob;

    async fn run(&self, queue: &Queue, job: &Job, draft: DraftJob) -> Result<Value, HandlerError> {
        canonical::add("draft_id", draft.draft_id.to_string());
        let started = queue.begin(|| self.store.start_draft(queue, job));
        let answer = match started.await?.ok_or(HandlerError::Superseded)? {
            Err(refusal) => Err((refusal.code, refusal.message)),
            Ok(started) => {
                let Started { org_id, ticket, .. } = started;
                let answer = self.models.chat(org_id, ticket, &started.request).await;
                answer.map_err(|refused| (refused.code, refused.message))
            }
        };
        Ok(match answer {
            Ok(text) => json!({ "text": text }),
            Err((code, message)) => {
                canonical::add("error_code", code.as_str());
                json!({ "failed": code, "message": message })
            }
        })
    }

    /// The text, and the end of the job, in one transaction.
    async fn record_success(
        &self,
        queue: &Queue,
        job: &Job,
        result: &Value,
    ) -> Result<bool, DbError> {
        match self.store.finish_draft(queue, job, result).await {
            // It is paid, and another call would be paid, too: the draft ends all the same.
            Err(error) if error.is_about_the_data() => {
                tracing::warn!(%error, "what a model has written cannot be stored");
                let message = "what the model has written cannot be stored";
                let failed = json!({ "failed": "document_invalid", "message": message });
                self.store.finish_draft(queue, job, &failed).await
            }
            recorded => recorded,
        }
    }
}
