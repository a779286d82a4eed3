//! Jobs of the kind `document_ingestion`: page by page, the texts of a project's files.

use kijko_core::{
    db::retry_transient,
    jobs::{Handler, HandlerError, Job, JobKind, Queue},
    telemetry::canonical,
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::store::{File, Store, Stored};
use crate::input_files::InputFiles;

/// The payload of such a job.
#[derive(Debug, Deserialize)]
pub(super) struct IngestionJob {
    /// The project.
    pub project_id: Uuid,
}

impl JobKind for IngestionJob {
    const KIND: &'static str = "document_ingestion";
    const HALF_OF_SLOTS: bool = true;
}

/// Reads files.
pub(super) struct IngestionHandler {
    pub store: Store,
    pub files: InputFiles,
}

impl Handler for IngestionHandler {
    type Payload = IngestionJob;

    async fn run(
        &self,
        queue: &Queue,
        job: &Job,
        payload: IngestionJob,
    ) -> Result<Value, HandlerError> {
        canonical::add("project_id", payload.project_id.to_string());
        let mut files = 0;
        loop {
            let page = queue.begin(|| self.store.next(queue, job)).await?;
            // Cancelled, or a newer ingestion has begun.
            let Some(page) = page.filter(|page| page.looked > 0) else {
                break;
            };
            let mut stored = Vec::new();
            for file in &page.files {
                stored.push(self.read(file).await?);
            }
            let went = retry_transient(queue.retry_limit(), || {
                self.store.store(queue, job, &page, &stored)
            });
            if !went.await? {
                break;
            }
            files += page.looked;
        }
        canonical::add("files", files);
        Ok(json!({ "files": files }))
    }
}

impl IngestionHandler {
    /// Without content, if it is no text or gone; then the file is left out.
    async fn read(&self, file: &File) -> Result<Stored, HandlerError> {
        let content = match self.files.read(&file.path, &file.ticket).await {
            Ok(text) => Some(text),
            Err(failure) if failure.retryable => return Err(failure.into()),
            Err(_) => None,
        };
        Ok(Stored {
            file_id: file.file_id,
            version: file.version,
            content,
        })
    }
}
