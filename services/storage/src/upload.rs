//! An upload: an intent that is committed, bytes under a new version, and then the row, its gauge and the end of the intent in one
//! transaction. Wherever it stops, the intent names the bytes that are left over, and the sweeper deletes them.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    blobs::{Blobs, Writer},
    config::Config,
    content_type::{self, SNIFFED},
    database::{BucketLimits, Database, Intent, Object, Tried},
    error::{
        StorageError, already_exists, internal, invalid_mime_type, invalid_request, too_large,
    },
    metrics::StorageSeries,
};

/// Bytes of an unknown number are held in steps.
const ADMITTED_AT_A_TIME: u64 = 1 << 20;
/// What an uploader writes about an object, which is in its row.
const MAX_USER_METADATA: usize = 64 << 10;
/// How often policies are asked about an object that has come while bytes came.
const RETRIES: usize = 5;

/// What an upload needs.
#[derive(Clone)]
pub struct Uploads {
    /// The database.
    pub database: Database,
    /// The bytes.
    pub blobs: Blobs,
    /// Limits.
    pub config: Arc<Config>,
    /// Counters.
    pub series: Arc<StorageSeries>,
}

/// An upload under way. Dropped before it is finished, it is given up.
pub struct Upload {
    database: Database,
    version: Uuid,
    limits: BucketLimits,
    /// Bytes that the plan holds for it.
    admitted: u64,
    tried: Option<Tried>,
    heartbeat: JoinHandle<()>,
    lost: CancellationToken,
    ended: bool,
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.heartbeat.abort();
        // Without a runtime the process is about to end, and the sweeper of another one does it.
        if let (false, Ok(runtime)) = (self.ended, tokio::runtime::Handle::try_current()) {
            let (database, version) = (self.database.clone(), self.version);
            runtime.spawn(async move {
                let _ = database.give_up(version).await;
            });
        }
    }
}

/// What is known of bytes that are stored.
struct Stored {
    size: u64,
    hash: String,
    kind: String,
}

impl Uploads {
    /// Begins one. Limits that are known already refuse it before its bytes are read.
    pub async fn begin(
        &self,
        intent: &Intent,
        declared: Option<&str>,
    ) -> Result<Upload, StorageError> {
        let written = intent.user_metadata.as_ref().map(Value::to_string);
        if written.is_some_and(|text| text.len() > MAX_USER_METADATA) {
            return Err(invalid_request(format!(
                "metadata has more than {MAX_USER_METADATA} bytes"
            ))
            .after_admission());
        }
        let lease = self.config.lease;
        let lost = CancellationToken::new();
        let heartbeat = beat(self.database.clone(), intent.version, lease, lost.clone());
        let mut upload = Upload {
            database: self.database.clone(),
            version: intent.version,
            limits: BucketLimits::default(),
            admitted: intent.bytes.unwrap_or(0),
            tried: intent.tried.clone(),
            heartbeat: tokio::spawn(heartbeat),
            lost,
            ended: false,
        };
        let limits = self
            .database
            .begin(intent, lease, self.config.uploads_of_caller)
            .await;
        upload.limits = limits.inspect_err(|_| {
            self.series.refused.inc();
        })?;
        if intent
            .bytes
            .is_some_and(|bytes| bytes > self.max_bytes(&upload.limits))
        {
            return Err(too_large().after_admission());
        }
        if let Some(kind) =
            declared.filter(|kind| content_type::essence(kind) != "application/octet-stream")
        {
            self.check_allowed(&upload.limits, kind)?;
        }
        Ok(upload)
    }

    fn max_bytes(&self, limits: &BucketLimits) -> u64 {
        limits
            .file_size_limit
            .unwrap_or(u64::MAX)
            .min(self.config.max_bytes)
    }

    fn check_allowed(&self, limits: &BucketLimits, kind: &str) -> Result<(), StorageError> {
        match content_type::is_allowed(limits.allowed_mime_types.as_deref(), kind) {
            true => Ok(()),
            false => Err(invalid_mime_type(kind).after_admission()),
        }
    }

    /// Stores the bytes and gives them their row.
    pub async fn store(
        &self,
        mut upload: Upload,
        declared: Option<&str>,
        bytes: BoxStream<'static, Result<Bytes, StorageError>>,
    ) -> Result<Object, StorageError> {
        let lost = upload.lost.clone();
        let stored = tokio::select! {
            stored = self.receive(&upload, declared, bytes) => stored?,
            () = lost.cancelled() => return Err(internal("an upload was given up while its bytes came")),
        };
        self.series.received_bytes.inc_by(stored.size);
        let facts = facts(stored.size, &format!("\"{}\"", stored.hash), &stored.kind);
        self.finish(&mut upload, &facts).await
    }

    /// Copies stored bytes and gives the copy its row.
    pub async fn copy(
        &self,
        mut upload: Upload,
        source: &Object,
    ) -> Result<Option<Object>, StorageError> {
        let Some(from) = source.blob() else {
            return Ok(None);
        };
        let kind = source
            .metadata("mimetype")
            .unwrap_or("application/octet-stream");
        let copied = match self.blobs.copies(source.size()) {
            true => self.blobs.copy(from, upload.version).await,
            false => match self.blobs.read(from, 0..source.size()).await {
                Ok(bytes) => {
                    let bytes = bytes.map_err(internal).boxed();
                    self.receive(&upload, Some(kind), bytes).await?;
                    Ok(())
                }
                Err(error) => Err(error),
            },
        };
        match copied {
            Ok(()) => {}
            // Replaced or deleted since its row was read.
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(internal(error)),
        }
        let facts = facts(
            source.size(),
            source.metadata("eTag").unwrap_or_default(),
            kind,
        );
        self.finish(&mut upload, &facts).await.map(Some)
    }

    async fn finish(&self, upload: &mut Upload, facts: &Value) -> Result<Object, StorageError> {
        // If the outcome is unknown, giving up does the right thing: it finds nothing when the row was written.
        for _ in 0..RETRIES {
            if let Some(object) = self.database.finish(upload.version, facts).await? {
                upload.ended = true;
                self.series.uploads.inc();
                return Ok(object);
            }
            let Some(tried) = &upload.tried else { break };
            self.database.try_again(upload.version, tried).await?;
        }
        Err(already_exists().after_admission())
    }

    async fn receive(
        &self,
        upload: &Upload,
        declared: Option<&str>,
        mut bytes: BoxStream<'static, Result<Bytes, StorageError>>,
    ) -> Result<Stored, StorageError> {
        let (max_bytes, mut admitted) = (self.max_bytes(&upload.limits), upload.admitted);
        let mut writer = self.blobs.writer(upload.version, max_bytes);
        let mut hash = digest::Context::new(&digest::SHA256);
        let (mut size, mut head) = (0_u64, Vec::with_capacity(SNIFFED));
        while let Some(chunk) = bytes.next().await {
            let chunk = chunk?;
            size += chunk.len() as u64;
            if size > max_bytes {
                return Err(too_large().after_admission());
            }
            // The length was unknown, or more bytes came than it said.
            if size > admitted {
                let held = self
                    .database
                    .admit_bytes(upload.version, size, ADMITTED_AT_A_TIME);
                admitted = held.await?;
            }
            hash.update(&chunk);
            let missing = SNIFFED.saturating_sub(head.len()).min(chunk.len());
            head.extend_from_slice(&chunk[..missing]);
            writer.take(&chunk).await.map_err(internal)?;
            if writer.is_full() {
                self.store_parts(upload, &mut writer).await?;
            }
        }
        let kind = self.check_bytes(&upload.limits, declared, &head)?;
        writer.complete().await.map_err(internal)?;
        Ok(Stored {
            size,
            hash: hex(hash.finish().as_ref()),
            kind,
        })
    }

    /// A multipart upload is known to the database before its first part, as an upload is before its first byte.
    async fn store_parts(&self, upload: &Upload, writer: &mut Writer) -> Result<(), StorageError> {
        if let Some(id) = writer.begin().await.map_err(internal)? {
            let known = self.database.note_multipart(upload.version, &id).await;
            if !matches!(known, Ok(true)) {
                // Nobody else knows of it.
                let aborted = self.blobs.delete(upload.version, Some(&id)).await;
                aborted.map_err(internal)?;
            }
            if !known? {
                return Err(internal("an upload was given up while its bytes came"));
            }
        }
        writer.store_parts().await.map_err(internal)
    }

    /// The type to store, if the bucket takes it.
    fn check_bytes(
        &self,
        limits: &BucketLimits,
        declared: Option<&str>,
        head: &[u8],
    ) -> Result<String, StorageError> {
        let sniffed = content_type::sniff(head);
        let kind = content_type::stored(declared, sniffed);
        self.check_allowed(limits, &kind)?;
        match content_type::is_honest(limits.allowed_mime_types.as_deref(), &kind, sniffed) {
            true => Ok(kind),
            false => Err(invalid_mime_type(sniffed.unwrap_or(&kind)).after_admission()),
        }
    }
}

/// What the row says of the bytes; the database adds when.
fn facts(size: u64, tag: &str, kind: &str) -> Value {
    json!({ "size": size, "contentLength": size, "eTag": tag, "mimetype": kind, "httpStatusCode": 200 })
}

/// 128 bits of the hash: a tag for caches, and no proof.
fn hex(hash: &[u8]) -> String {
    hash.iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Extends the lease until it is aborted, or finds that the upload was given up.
async fn beat(database: Database, version: Uuid, lease: Duration, lost: CancellationToken) {
    loop {
        tokio::time::sleep(lease / 4).await;
        // A database that does not answer gives nothing up. If it is away for too long, finishing finds out.
        if let Ok(false) = database.extend(version, lease).await {
            lost.cancel();
            return;
        }
    }
}
