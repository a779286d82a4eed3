//! Jobs of the kind `privacy_export`: the rows that the database has collected and the files become an archive. Each attempt makes it
//! anew, and the last one that the database takes is the export.

use std::path::PathBuf;

use kijko_core::{
    db::retry_transient,
    jobs::{Failure, Handler, HandlerError, Job, JobKind, Queue},
    telemetry::canonical,
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;
use zip::result::ZipResult;

use super::{
    archive::Archive,
    bucket::{Bucket, unavailable},
    store::{Export, ObjectRow, Store},
};

/// Bytes of a file that are compressed at once.
const PART: usize = 1 << 20;

/// The payload.
#[derive(Debug, Deserialize)]
pub struct ExportJob {
    /// The export.
    pub request_id: Uuid,
}

impl JobKind for ExportJob {
    const KIND: &'static str = "privacy_export";
    const HALF_OF_SLOTS: bool = true;
}

/// Makes archives.
pub(super) struct ExportHandler {
    store: Store,
    bucket: Bucket,
    folder: PathBuf,
    max_bytes: u64,
}

impl ExportHandler {
    pub(super) fn new(store: Store, bucket: Bucket, folder: PathBuf, max_bytes: u64) -> Self {
        Self {
            store,
            bucket,
            folder,
            max_bytes,
        }
    }

    async fn add_rows(
        &self,
        queue: &Queue,
        job: &Job,
        export: &Export,
        mut archive: Archive,
    ) -> Result<Archive, HandlerError> {
        for place in 1..=export.pieces {
            let piece =
                retry_transient(queue.retry_limit(), || self.store.piece(queue, job, place));
            let piece = piece.await?.ok_or(HandlerError::Superseded)?;
            let columns = export.schema.get(&piece.table).cloned().unwrap_or_default();
            archive = on_thread(archive, move |archive| {
                archive.rows(&piece.table, &columns, &piece.lines, piece.rows)
            })
            .await?;
        }
        Ok(archive)
    }

    async fn add_files(
        &self,
        queue: &Queue,
        job: &Job,
        export: &Export,
        mut archive: Archive,
    ) -> Result<Archive, HandlerError> {
        let mut room = self.max_bytes;
        for object in &export.objects {
            match room.checked_sub(object.bytes) {
                Some(rest) => room = rest,
                None => {
                    archive.missing(&object.bucket, &object.name, object.bytes, "too_large");
                    continue;
                }
            }
            archive = self.add_file(queue, job, object, archive).await?;
        }
        Ok(archive)
    }

    async fn add_file(
        &self,
        queue: &Queue,
        job: &Job,
        object: &ObjectRow,
        mut archive: Archive,
    ) -> Result<Archive, HandlerError> {
        let ticket = retry_transient(queue.retry_limit(), || {
            self.store.object_ticket(queue, job, object.id)
        });
        let answer = match ticket.await? {
            Some(ticket) => self.bucket.read(&ticket).await?,
            None => None,
        };
        let Some(mut answer) = answer else {
            archive.missing(&object.bucket, &object.name, object.bytes, "not_found");
            return Ok(archive);
        };
        let (bucket, name, bytes) = (object.bucket.clone(), object.name.clone(), object.bytes);
        archive = on_thread(archive, move |archive| archive.file(&bucket, &name, bytes)).await?;
        let mut kept = Vec::new();
        while let Some(part) = answer.next().await.map_err(unavailable)? {
            kept.extend_from_slice(&part);
            if kept.len() >= PART {
                let whole = std::mem::take(&mut kept);
                archive = on_thread(archive, move |archive| archive.write(&whole)).await?;
            }
        }
        on_thread(archive, move |archive| archive.write(&kept)).await
    }
}

impl Handler for ExportHandler {
    type Payload = ExportJob;

    async fn run(
        &self,
        queue: &Queue,
        job: &Job,
        payload: ExportJob,
    ) -> Result<Value, HandlerError> {
        canonical::add("privacy_request_id", payload.request_id.to_string());
        let export = queue.begin(|| self.store.start_export(queue, job));
        let Some(export) = export.await? else {
            return Ok(json!({ "stored": false }));
        };
        let folder = self.folder.clone();
        let archive = tokio::task::spawn_blocking(move || Archive::new(&folder)).await;
        let archive = archive
            .map_err(std::io::Error::other)
            .flatten()
            .map_err(unwritable)?;
        let archive = self.add_rows(queue, job, &export, archive).await?;
        let archive = self.add_files(queue, job, &export, archive).await?;
        let mut head = export.head.clone();
        head.insert("format".to_owned(), json!("kijko-export/1"));
        let finished = tokio::task::spawn_blocking(move || archive.finish(head)).await;
        let finished = finished.map_err(unwritable)?.map_err(unwritable)?;
        let (bytes, sha256) = (finished.bytes, finished.sha256);
        canonical::add("bytes", bytes);
        let ticket = retry_transient(queue.retry_limit(), || self.store.store_ticket(queue, job));
        let ticket = ticket.await?.ok_or(HandlerError::Superseded)?;
        self.bucket.store(&ticket, finished.file, bytes).await?;
        let recorded = retry_transient(queue.retry_limit(), || {
            self.store.finish_export(queue, job, bytes, &sha256)
        });
        Ok(json!({ "stored": recorded.await? }))
    }
}

/// Compression and the disk must not hold up other tasks.
async fn on_thread(
    mut archive: Archive,
    work: impl FnOnce(&mut Archive) -> ZipResult<()> + Send + 'static,
) -> Result<Archive, HandlerError> {
    let done = tokio::task::spawn_blocking(move || work(&mut archive).map(|()| archive)).await;
    Ok(done.map_err(unwritable)?.map_err(unwritable)?)
}

fn unwritable(cause: impl std::fmt::Display) -> Failure {
    tracing::warn!(%cause, "an archive cannot be written");
    Failure::transient("archive_unwritable", "the archive cannot be written")
}
