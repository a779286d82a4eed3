//! Jobs of the kind `blog_render`.

use kijko_core::{
    db::{DbError, retry_transient},
    jobs::{Failure, Handler, HandlerError, Job, JobClass, JobKind, Queue},
    telemetry::canonical,
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{render::render, store::Store};

/// The payload of a rendering: it names the text and has nothing of it.
#[derive(Debug, Deserialize)]
pub struct RenderJob {
    /// The post.
    pub post_id: Uuid,
    /// The hash of the Markdown that is to be rendered.
    pub content_hash: String,
}

impl JobKind for RenderJob {
    const KIND: &'static str = "blog_render";
    const CLASS: JobClass = JobClass::Short;
}

/// Renders texts. A text is named by its hash, so a job that runs twice records the same.
pub(super) struct RenderHandler {
    store: Store,
}

impl RenderHandler {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }
}

impl Handler for RenderHandler {
    type Payload = RenderJob;

    async fn run(&self, queue: &Queue, _: &Job, job: RenderJob) -> Result<Value, HandlerError> {
        let RenderJob {
            post_id,
            content_hash: hash,
        } = job;
        canonical::add("post_id", post_id.to_string());
        let text = queue.begin(|| self.store.start_render(post_id, &hash));
        let Some(text) = text.await? else {
            return Ok(json!({ "recorded": false }));
        };
        // Up to a quarter of a second of computing for the longest texts, which must not hold up other tasks.
        let rendered = tokio::task::spawn_blocking(move || render(&text)).await;
        let rendered = rendered
            .map_err(|error| Failure::transient("internal", format!("the renderer: {error}")))?;
        canonical::add("words", rendered.words);
        let recorded = retry_transient(queue.retry_limit(), || {
            self.store.record_render(post_id, &hash, &rendered)
        });
        Ok(json!({ "recorded": recorded.await? }))
    }

    /// The result is in the post, so the job is deleted: each save makes one.
    async fn record_success(&self, queue: &Queue, job: &Job, _: &Value) -> Result<bool, DbError> {
        self.store.end_render(queue, job).await
    }
}
