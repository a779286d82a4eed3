//! Bytes in a bucket of an S3-compatible store, by `object_store`.

use std::{io, ops::Range, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use object_store::{
    ClientOptions, Error, GetOptions, GetRange, MultipartId, ObjectStore, ObjectStoreExt,
    PutPayload, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    multipart::{MultipartStore, PartId},
    path::Path,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::{Entry, path, version_of};
use crate::config::S3Settings;

/// Copying more is not one request.
pub const MAX_COPY: u64 = 5 << 30;
/// A connection, and the first byte of an answer or its next one.
const CONNECT: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_secs(30);
/// A request whose body and answer are bounded: a part, a list, a deletion.
const CALL: Duration = Duration::from_secs(120);
/// Nothing is tried again after this time: the client is still waiting.
const RETRIES: RetryConfig = RetryConfig {
    backoff: object_store::BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(5),
        base: 2.,
    },
    max_retries: 4,
    retry_timeout: Duration::from_secs(60),
};

/// A bucket, or a prefix in it.
#[derive(Debug)]
pub struct S3 {
    /// For requests with a timeout: parts, lists, deletions.
    calls: AmazonS3,
    /// For the bytes of objects, which last as long as a client takes to read them.
    reads: AmazonS3,
    prefix: Path,
    /// Where bytes wait that are no whole part yet.
    pub(super) spool: PathBuf,
    /// Memory for what is being sent, in units of [`UNIT`].
    buffer: Arc<Semaphore>,
    units: u32,
}

/// A permit of the buffer stands for so many bytes.
const UNIT: u64 = 1 << 10;

impl S3 {
    pub(super) fn open(settings: &S3Settings) -> Result<Self, Error> {
        let options = ClientOptions::new()
            .with_connect_timeout(CONNECT)
            .with_allow_http(true);
        let store = |options: ClientOptions| {
            let mut builder = AmazonS3Builder::new()
                .with_bucket_name(&settings.bucket)
                .with_region(&settings.region)
                .with_access_key_id(&settings.access_key_id)
                .with_secret_access_key(settings.secret_access_key.expose())
                .with_client_options(options)
                .with_retry(RETRIES);
            if let Some(endpoint) = &settings.endpoint {
                builder = builder.with_endpoint(endpoint);
            }
            builder.build()
        };
        std::fs::create_dir_all(&settings.spool).map_err(|error| Error::Generic {
            store: "spool",
            source: Box::new(error),
        })?;
        let units = u32::try_from(settings.buffer_bytes / UNIT).unwrap_or(u32::MAX);
        Ok(Self {
            calls: store(options.clone().with_timeout(CALL))?,
            reads: store(options.with_timeout_disabled().with_read_timeout(SILENCE))?,
            prefix: Path::from(settings.prefix.as_str()),
            spool: settings.spool.clone(),
            buffer: Arc::new(Semaphore::new(units as usize)),
            units,
        })
    }

    fn key(&self, version: Uuid) -> Path {
        self.prefix.parts().chain(path(version).parts()).collect()
    }

    /// Memory for bytes that are about to be sent: whoever asks first gets it first. A request to S3 ends in time, so there is always
    /// room again; what is slow to come waits in the spool, and holds none.
    pub(super) async fn room(&self, bytes: u64) -> OwnedSemaphorePermit {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        // The settings see to it that a part fits.
        let room = self
            .buffer
            .clone()
            .acquire_many_owned(units.min(self.units));
        room.await.expect("the buffer is never closed")
    }

    /// Lists a name that no object has: it needs the bucket, the key, and the right to list.
    pub(super) async fn probe(&self) -> Result<(), Error> {
        let none = self.prefix.parts().chain(["probe".into()]).collect();
        match self.calls.list(Some(&none)).next().await {
            Some(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) async fn put(&self, version: Uuid, bytes: PutPayload) -> Result<(), Error> {
        self.calls.put(&self.key(version), bytes).await.map(drop)
    }

    pub(super) async fn begin(&self, version: Uuid) -> Result<MultipartId, Error> {
        self.calls.create_multipart(&self.key(version)).await
    }

    pub(super) async fn put_part(
        &self,
        version: Uuid,
        id: &MultipartId,
        index: usize,
        bytes: PutPayload,
    ) -> Result<PartId, Error> {
        self.calls
            .put_part(&self.key(version), id, index, bytes)
            .await
    }

    pub(super) async fn complete(
        &self,
        version: Uuid,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<(), Error> {
        self.calls
            .complete_multipart(&self.key(version), id, parts)
            .await
            .map(drop)
    }

    /// The parts of an upload that ends without an object. Done twice, it does nothing.
    pub(super) async fn abort(&self, version: Uuid, id: &str) -> Result<(), Error> {
        match self
            .calls
            .abort_multipart(&self.key(version), &id.to_owned())
            .await
        {
            Err(Error::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    pub(super) async fn read(
        &self,
        version: Uuid,
        range: Range<u64>,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>, Error> {
        // Without bytes there is no range that could be asked for.
        let options = GetOptions {
            range: (!range.is_empty()).then_some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        let found = self.reads.get_opts(&self.key(version), options).await?;
        Ok(found
            .into_stream()
            .map(|part| part.map_err(io::Error::other)))
    }

    /// Versions are new, so nothing is replaced.
    pub(super) async fn copy(&self, from: Uuid, to: Uuid) -> Result<(), Error> {
        self.calls.copy(&self.key(from), &self.key(to)).await
    }

    pub(super) async fn delete(&self, version: Uuid, multipart: Option<&str>) -> Result<(), Error> {
        if let Some(id) = multipart {
            self.abort(version, id).await?;
        }
        match self.calls.delete(&self.key(version)).await {
            Err(Error::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    pub(super) async fn size(&self, version: Uuid) -> Result<u64, Error> {
        Ok(self.calls.head(&self.key(version)).await?.size)
    }

    pub(super) fn list(&self) -> impl Stream<Item = Result<Entry, Error>> + Send + use<> {
        let prefix = self.prefix.clone();
        let below = Some(&self.prefix).filter(|prefix| !prefix.is_root());
        self.calls.list(below).filter_map(move |found| {
            std::future::ready(match found {
                Err(error) => Some(Err(error)),
                Ok(found) => {
                    let name: Option<Path> = found
                        .location
                        .prefix_match(&prefix)
                        .map(|parts| parts.collect());
                    let version = name.and_then(|name| version_of(name.as_ref()));
                    version.map(|version| {
                        Ok(Entry {
                            name: found.location.to_string(),
                            version,
                            bytes: found.size,
                            complete: true,
                        })
                    })
                }
            })
        })
    }
}
