//! The bytes of an upload, in parts: while one is stored, the next one comes. What fits into one part is stored at once.
//!
//! What comes is kept in memory only until it is worth a write: a small part goes to a folder, and what waits to be a part of S3
//! goes into a [`Spool`]. A part of S3 is in memory while it is sent, and all of those share a bounded [buffer](super::s3::S3::room).

use bytes::{Bytes, BytesMut};
use object_store::{Error, MultipartUpload, PutPayload, multipart::PartId};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::{Blobs, spool::Spool};

/// A part of a file.
const FOLDER_PART: u64 = 256 << 10;
/// What is written to a spool at a time.
const PIECE: usize = 64 << 10;
/// S3 takes no part below 5 MiB but the last one, and some stores take only parts of one size.
const S3_PART: u64 = 8 << 20;
const S3_MAX_PARTS: u64 = 10_000;

/// The size of the parts in which an object of so many bytes goes to S3.
pub(crate) fn s3_part(max_bytes: u64) -> u64 {
    S3_PART.max(max_bytes.div_ceil(S3_MAX_PARTS))
}

/// Takes bytes until they are complete. Dropped before, it leaves what [`Blobs::delete`] deletes.
pub struct Writer {
    blobs: Blobs,
    version: Uuid,
    part_bytes: u64,
    /// Bytes are copied: those of a slow sender come one by one, each with a buffer of the connection behind it.
    kept: BytesMut,
    spool: Option<Spool>,
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
        let (part_bytes, spool) = match &blobs {
            Blobs::Folder(_) => (FOLDER_PART, None),
            Blobs::S3(s3) => (s3_part(max_bytes), Some(Spool::new(s3.spool.clone()))),
        };
        Self {
            blobs,
            version,
            part_bytes,
            kept: BytesMut::new(),
            spool,
            parts: Parts::None,
            under_way: None,
        }
    }

    /// Takes bytes. A part is stored by [`Self::store_parts`] when [`Self::is_full`] says so.
    pub async fn take(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.kept.extend_from_slice(bytes);
        let missing = self.missing();
        if let Some(spool) = &mut self.spool
            && self.kept.len() >= PIECE.min(missing)
        {
            let piece = self.kept.split_to(missing.min(self.kept.len()));
            spool.add(piece.freeze()).await.map_err(of_spool)?;
        }
        Ok(())
    }

    /// Bytes that a part lacks besides those of the spool.
    fn missing(&self) -> usize {
        let spooled = self.spool.as_ref().map_or(0, Spool::bytes);
        (self.part_bytes - spooled) as usize
    }

    /// Whether there is a whole part.
    pub fn is_full(&self) -> bool {
        self.kept.len() >= self.missing()
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
            let rest = self.kept.split_to(self.missing()).freeze();
            self.store(rest).await?;
        }
        Ok(())
    }

    /// All bytes have come.
    pub async fn complete(mut self) -> Result<(), Error> {
        let rest = self.kept.split().freeze();
        let bytes = rest.len() as u64 + self.spool.as_ref().map_or(0, Spool::bytes);
        if let Parts::None = self.parts {
            return match &self.blobs {
                Blobs::Folder(folder) => folder.put(self.version, rest.into()).await,
                Blobs::S3(s3) => {
                    let _room = s3.room(bytes).await;
                    let all = spooled(&mut self.spool, rest).await?;
                    s3.put(self.version, all).await
                }
            };
        }
        if bytes > 0 {
            self.store(rest).await?;
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

    /// Stores what the spool has, and the rest behind it.
    async fn store(&mut self, rest: Bytes) -> Result<(), Error> {
        self.stored().await?;
        let task = match (&mut self.parts, &self.blobs) {
            (Parts::Folder(upload), _) => {
                let written = upload.put_part(rest.into());
                tokio::spawn(async move { written.await.map(|()| None) })
            }
            (Parts::S3 { id, next, .. }, Blobs::S3(s3)) => {
                let spooled_bytes = self.spool.as_ref().map_or(0, Spool::bytes);
                let room = s3.room(spooled_bytes + rest.len() as u64).await;
                let part = spooled(&mut self.spool, rest).await?;
                let (s3, version, id, index) = (s3.clone(), self.version, id.clone(), *next);
                *next += 1;
                tokio::spawn(async move {
                    let _room = room;
                    s3.put_part(version, &id, index, part).await.map(Some)
                })
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

async fn spooled(spool: &mut Option<Spool>, rest: Bytes) -> Result<PutPayload, Error> {
    match spool {
        Some(spool) => Ok(spool.take(rest).await.map_err(of_spool)?.into()),
        None => Ok(rest.into()),
    }
}

fn of_spool(error: std::io::Error) -> Error {
    Error::Generic {
        store: "spool",
        source: Box::new(error),
    }
}
