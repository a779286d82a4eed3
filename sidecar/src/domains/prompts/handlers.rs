//! Jobs of the kind `prompt_check`.

use std::sync::Arc;

use kijko_core::{
    db::{DbError, retry_transient},
    jobs::{Handler, HandlerError, Job, JobClass, JobKind, Queue},
    telemetry::canonical,
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::store::Store;
use crate::{problems, rendering::Renderer};

/// The payload of a check: it names the version and has nothing of it.
#[derive(Debug, Deserialize)]
pub struct PromptCheckJob {
    /// The version that is to be checked.
    pub version_id: Uuid,
}

impl JobKind for PromptCheckJob {
    const KIND: &'static str = "prompt_check";
    const CLASS: JobClass = JobClass::Short;
}

/// Checks templates and schemas of versions, which never change: a check that runs twice records the same.
pub(super) struct PromptCheckHandler {
    store: Store,
    renderer: Arc<Renderer>,
}

impl PromptCheckHandler {
    pub(super) fn new(store: Store, renderer: Arc<Renderer>) -> Self {
        Self { store, renderer }
    }
}

impl Handler for PromptCheckHandler {
    type Payload = PromptCheckJob;

    async fn run(
        &self,
        queue: &Queue,
        _: &Job,
        payload: PromptCheckJob,
    ) -> Result<Value, HandlerError> {
        let id = payload.version_id;
        canonical::add("prompt_version_id", id.to_string());
        let version = queue.begin(|| self.store.start_check(id)).await?;
        let Some(version) = version else {
            return Ok(json!({ "recorded": false }));
        };
        canonical::add("prompt_version", version.version);
        let found = problems::find(
            &self.renderer.sandbox,
            &version.content.templates(),
            &version.content.placeholders(),
            version.engine,
            &version.input_schema,
        )
        .await?;
        canonical::add("problems", found.len());
        let found = json!(found);
        let recorded = retry_transient(queue.retry_limit(), || self.store.record_check(id, &found));
        Ok(json!({ "recorded": recorded.await? }))
    }

    /// The result is in the version, so the job is deleted: pushes are many, and rows of ended jobs would stay for a month.
    async fn record_success(&self, queue: &Queue, job: &Job, _: &Value) -> Result<bool, DbError> {
        self.store.end_check(queue, job).await
    }
}
