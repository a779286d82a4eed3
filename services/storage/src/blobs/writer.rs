//! The bytes of an upload, in parts: while one is stored, the next one comes. What fits into one part is stored at once.

use bytes::Bytes;
use object_store::{Error, MultipartUpload, PutPayload, multipart::PartId};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::Blobs;

/// A part of a file.
const FOLDER_PART: u64 = 1 << 20;
/// S3 takes no part below 5 MiB but the last one, and some stores take only parts of one size.
const S3_PART: u64 = 8 << 20;
const S3_MAX_PARTS: u64 = 10_000;

/// Takes bytes until they are complete. Dropped before, it leaves what [`Blobs::delete`] deletes.
pub struct Writer {
    blobs: Blobs,
    version: Uuid,
    part_bytes: u64,
    kept: Vec<Bytes>,
    kept_bytes: u64,
    parts: Parts,
    under_way: Option<AbortOnDropHandle<Result<Option<PartId>, Error>>>,
}

enum Parts {
    None,
    Folder(Box<dyn MultipartUpload>),
    S3 {
        id: String,
        stored: Vec<PartId>,
        next: usize,
    },
}

impl Writer {
    pub(super) fn new(blobs: Blobs, version: Uuid, max_bytes: u64) -> Self {
        let part_bytes = match &blobs {
            Blobs::Folder(_) => FOLDER_PART,
            Blobs::S3(_) => S3_PART.max(max_bytes.div_ceil(S3_MAX_PARTS)),
        };
        Self {
            blobs,
            version,
            part_bytes,
            kept: Vec::new(),
            kept_bytes: 0,
            parts: Parts::None,
            under_way: None,
        }
    }

    /// Takes bytes. A part is stored by [`Self::store_part`] when [`Self::is_full`] says so.
    pub fn take(&mut self, bytes: Bytes) {
        self.kept_bytes += bytes.len() as u64;
        self.kept.push(bytes);
    }

    /// Whether there is a whole part.
    pub fn is_full(&self) -> bool {
        self.kept_bytes >= self.part_bytes
    }

    /// Before the first part. An id that is returned must be noted before parts are stored: by it what was stored is aborted.
    pub async fn begin(&mut self) -> Result<Option<String>, Error> {
        if !matches!(self.parts, Parts::None) {
            return Ok(None);
        }
        match &self.blobs {
            Blobs::Folder(folder) => {
                self.parts = Parts::Folder(folder.begin(self.version).await?);
                Ok(None)
            }
            Blobs::S3(s3) => {
                let id = s3.begin(self.version).await?;
                self.parts = Parts::S3 {
                    id: id.clone(),
                    stored: Vec::new(),
                    next: 0,
                };
                Ok(Some(id))
            }
        }
    }

    /// Stores whole parts, of exactly one size: once the one before is stored, in the background.
    pub async fn store_parts(&mut self) -> Result<(), Error> {
        while self.is_full() {
            let part = self.cut();
            self.store(part).await?;
        }
        Ok(())
    }

    /// All bytes have come.
    pub async fn complete(mut self) -> Result<(), Error> {
        let last = PutPayload::from_iter(std::mem::take(&mut self.kept));
        if let Parts::None = self.parts {
            return match &self.blobs {
                Blobs::Folder(folder) => folder.put(self.version, last).await,
                Blobs::S3(s3) => s3.put(self.version, last).await,
            };
        }
        if self.kept_bytes > 0 {
            self.store(last).await?;
        }
        self.stored().await?;
        match (self.parts, &self.blobs) {
            (Parts::Folder(mut upload), _) => upload.complete().await.map(drop),
            (Parts::S3 { id, stored, .. }, Blobs::S3(s3)) => {
                s3.complete(self.version, &id, stored).await
            }
            _ => unreachable!("parts are of the store"),
        }
    }

    fn cut(&mut self) -> PutPayload {
        let (mut part, mut missing) = (Vec::new(), self.part_bytes as usize);
        let mut rest = Vec::new();
        for mut bytes in std::mem::take(&mut self.kept) {
            let taken = bytes.split_to(missing.min(bytes.len()));
            missing -= taken.len();
            part.push(taken);
            if !bytes.is_empty() {
                rest.push(bytes);
            }
        }
        self.kept = rest;
        self.kept_bytes -= self.part_bytes;
        PutPayload::from_iter(part)
    }

    async fn store(&mut self, part: PutPayload) -> Result<(), Error> {
        self.stored().await?;
        let task = match (&mut self.parts, &self.blobs) {
            (Parts::Folder(upload), _) => {
                let written = upload.put_part(part);
                tokio::spawn(async move { written.await.map(|()| None) })
            }
            (Parts::S3 { id, next, .. }, Blobs::S3(s3)) => {
                let (s3, version, id, index) = (s3.clone(), self.version, id.clone(), *next);
                *next += 1;
                tokio::spawn(async move { s3.put_part(version, &id, index, part).await.map(Some) })
            }
            _ => unreachable!("an upload in parts has begun"),
        };
        self.under_way = Some(AbortOnDropHandle::new(task));
        Ok(())
    }

    /// Waits for the part that is being stored.
    async fn stored(&mut self) -> Result<(), Error> {
        let Some(task) = self.under_way.take() else {
            return Ok(());
        };
        let part = task
            .await
            .map_err(|gone| Error::JoinError { source: gone })??;
        if let (Parts::S3 { stored, .. }, Some(part)) = (&mut self.parts, part) {
            stored.push(part);
        }
        Ok(())
    }
}
