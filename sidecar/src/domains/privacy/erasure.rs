//! Jobs of the kind `privacy_erasure`: an erasure that is due is written into the journal. Only then does the database erase.

use kijko_core::{
    db::{DbError, retry_transient},
    jobs::{Failure, Handler, HandlerError, Job, JobClass, JobKind, Queue},
    telemetry::canonical,
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{archive::hex_digest, journal::Journal, store::Store};

/// The payload.
#[derive(Debug, Deserialize)]
pub struct ErasureJob {
    /// The erasure.
    pub request_id: Uuid,
}

impl JobKind for ErasureJob {
    const KIND: &'static str = "privacy_erasure";
    const CLASS: JobClass = JobClass::Short;
    const HALF_OF_SLOTS: bool = true;
}

/// Writes the journal.
pub(super) struct ErasureHandler {
    store: Store,
    journal: Journal,
}

impl ErasureHandler {
    pub(super) fn new(store: Store, journal: Journal) -> Self {
        Self { store, journal }
    }
}

impl Handler for ErasureHandler {
    type Payload = ErasureJob;

    async fn run(
        &self,
        queue: &Queue,
        job: &Job,
        payload: ErasureJob,
    ) -> Result<Value, HandlerError> {
        canonical::add("privacy_request_id", payload.request_id.to_string());
        let entry = queue.begin(|| self.store.start_journal(queue, job));
        let Some(entry) = entry.await? else {
            return Ok(json!({ "written": false }));
        };
        let journal = self.journal.clone();
        let written = tokio::task::spawn_blocking(move || journal.append(&entry)).await;
        let line = written.map_err(std::io::Error::other).flatten();
        let line = line.map_err(|error| {
            tracing::error!(%error, "the journal of erasures cannot be written");
            Failure::transient("journal_unavailable", "the journal cannot be written")
        })?;
        let digest = hex_digest(line.trim().as_bytes());
        let recorded = retry_transient(queue.retry_limit(), || {
            self.store.finish_journal(queue, job, &digest)
        });
        Ok(json!({ "written": recorded.await? }))
    }

    async fn record_success(
        &self,
        queue: &Queue,
        job: &Job,
        result: &Value,
    ) -> Result<bool, DbError> {
        queue.complete(job, result).await
    }
}
