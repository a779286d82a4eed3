//! Where bytes lie: under their version, which is a new UUID for each upload. Nothing that a client names is part of a path, bytes
//! never change once they are stored, and an object is moved without them. A folder and a bucket of S3 hold the same names.

mod folder;
mod s3;
mod spool;
mod writer;

use std::{io, ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use object_store::{Error, path::Path};
use uuid::Uuid;

use crate::config::Place;
use folder::Folder;
use s3::S3;
pub use writer::Writer;
pub(crate) use writer::s3_part;

/// The store.
#[derive(Debug, Clone)]
pub enum Blobs {
    /// A folder of this machine.
    Folder(Arc<Folder>),
    /// A bucket of an S3-compatible store.
    S3(Arc<S3>),
}

/// Bytes that are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Their name in the store, for a person.
    pub name: String,
    /// Their version.
    pub version: Uuid,
    /// How many.
    pub bytes: u64,
    /// False for a file that is being written.
    pub complete: bool,
}

impl Blobs {
    /// Opens the place of the objects; a folder is made. Whether S3 answers is seen later.
    pub fn open(place: &Place) -> Result<Self, Error> {
        Ok(match place {
            Place::Folder(folder) => Self::Folder(Arc::new(Folder::open(folder)?)),
            Place::S3(settings) => Self::S3(Arc::new(S3::open(settings)?)),
        })
    }

    /// Whether bytes can be stored, as far as that shows without storing any.
    pub async fn probe(&self) -> Result<(), Error> {
        match self {
            Self::Folder(folder) => folder.probe().await,
            Self::S3(s3) => s3.probe().await,
        }
    }

    /// Takes the bytes of a version, of which there are no more than `max_bytes`.
    pub fn writer(&self, version: Uuid, max_bytes: u64) -> Writer {
        Writer::new(self.clone(), version, max_bytes)
    }

    /// A part of the bytes of a version.
    pub async fn read(
        &self,
        version: Uuid,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>, Error> {
        match self {
            Self::Folder(folder) => Ok(folder.read(version, range).await?.boxed()),
            Self::S3(s3) => Ok(s3.read(version, range).await?.boxed()),
        }
    }

    /// Whether the store itself can copy this many bytes.
    pub fn copies(&self, bytes: u64) -> bool {
        match self {
            Self::Folder(_) => true,
            Self::S3(_) => bytes <= s3::MAX_COPY,
        }
    }

    /// The same bytes under another version.
    pub async fn copy(&self, from: Uuid, to: Uuid) -> Result<(), Error> {
        match self {
            Self::Folder(folder) => folder.copy(from, to).await,
            Self::S3(s3) => s3.copy(from, to).await,
        }
    }

    /// Deletes the bytes of a version, and what an upload left that was killed. Done twice, it does nothing.
    pub async fn delete(&self, version: Uuid, multipart: Option<&str>) -> Result<(), Error> {
        match self {
            Self::Folder(folder) => folder.delete(version).await,
            Self::S3(s3) => s3.delete(version, multipart).await,
        }
    }

    /// All bytes that are there. What does not have the name of a version is not ours, and is left out.
    pub fn list(&self) -> BoxStream<'static, Result<Entry, Error>> {
        match self {
            Self::Folder(folder) => folder.list().boxed(),
            Self::S3(s3) => s3.list().boxed(),
        }
    }

    /// How many bytes there are of a version; None for nothing.
    pub async fn size(&self, version: Uuid) -> Result<Option<u64>, Error> {
        let found = match self {
            Self::Folder(folder) => folder.size(version).await,
            Self::S3(s3) => s3.size(version).await,
        };
        match found {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Two levels of folders, so that none has too many files.
fn path(version: Uuid) -> Path {
    let name = version.to_string();
    Path::from(format!("{}/{}/{name}", &name[..2], &name[2..4]))
}

/// The version whose bytes have this name, below the place of all.
fn version_of(name: &str) -> Option<Uuid> {
    let version: Uuid = name.rsplit('/').next()?.parse().ok()?;
    (path(version).as_ref() == name).then_some(version)
}

/// A list that cannot be had.
fn failed<T: Send + 'static>(error: Error) -> impl Stream<Item = Result<T, Error>> + Send {
    stream::once(async { Err(error) })
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    #[test]
    fn only_names_of_versions_are_ours() {
        let version = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        let name = path(version).to_string();
        assert_eq!(name, "01/02/01020304-0506-0708-090a-0b0c0d0e0f10");
        assert_eq!(version_of(&name), Some(version));
        for other in [
            "01020304-0506-0708-090a-0b0c0d0e0f10",
            "01/03/01020304-0506-0708-090a-0b0c0d0e0f10",
            "x/01/02/01020304-0506-0708-090a-0b0c0d0e0f10",
            "01/02/0102030405060708090a0b0c0d0e0f10",
            "01/02/notes.txt",
            "",
        ] {
            assert_eq!(version_of(other), None, "{other}");
        }
    }

    async fn write(blobs: &Blobs, version: Uuid, chunks: &[&[u8]]) -> Result<(), Error> {
        let mut writer = blobs.writer(version, 1 << 30);
        for chunk in chunks {
            writer.take(chunk).await?;
            if writer.is_full() {
                assert_eq!(writer.begin().await?, None);
                writer.store_parts().await?;
            }
        }
        writer.complete().await
    }

    async fn read(blobs: &Blobs, version: Uuid, range: Range<u64>) -> io::Result<Vec<u8>> {
        let parts = blobs.read(version, range).await.map_err(io::Error::other)?;
        let parts: Vec<Bytes> = parts.try_collect().await?;
        Ok(parts.concat())
    }

    #[tokio::test]
    async fn a_folder_holds_what_was_written_and_nothing_after_its_deletion() {
        let folder = std::env::temp_dir().join(format!("kijko-blobs-{}", Uuid::new_v4()));
        let blobs = Blobs::open(&Place::Folder(folder.clone())).unwrap();
        blobs.probe().await.unwrap();
        let text: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
        let versions = [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()];
        write(&blobs, versions[0], &[]).await.unwrap();
        write(&blobs, versions[1], &[b"sh", b"", b"ort"])
            .await
            .unwrap();
        // Chunks that are smaller and larger than parts.
        let chunks = [
            &text[..700_000],
            &text[700_000..4_100_000],
            &text[4_100_000..],
        ];
        write(&blobs, versions[2], &chunks).await.unwrap();
        assert_eq!(read(&blobs, versions[0], 0..0).await.unwrap(), b"");
        assert_eq!(read(&blobs, versions[1], 0..5).await.unwrap(), b"short");
        assert!(read(&blobs, versions[2], 0..5_000_000).await.unwrap() == text);
        let middle = read(&blobs, versions[2], 1_048_570..1_048_580)
            .await
            .unwrap();
        assert_eq!(middle, text[1_048_570..1_048_580]);
        // One that is under way is listed as such.
        let under_way = Uuid::new_v4();
        let mut writer = blobs.writer(under_way, 1 << 30);
        writer.begin().await.unwrap();
        std::fs::write(folder.join("notes.txt"), "not ours").unwrap();
        let mut there: Vec<_> = blobs.list().try_collect().await.unwrap();
        there.sort_by_key(|entry| (entry.complete, entry.bytes));
        let seen: Vec<_> = there
            .iter()
            .map(|entry| (entry.version, entry.bytes, entry.complete))
            .collect();
        assert_eq!(
            seen,
            [
                (under_way, 0, false),
                (versions[0], 0, true),
                (versions[1], 5, true),
                (versions[2], 5_000_000, true)
            ]
        );
        for version in versions.into_iter().chain([under_way, under_way]) {
            blobs.delete(version, None).await.unwrap();
            assert_eq!(blobs.size(version).await.unwrap(), None);
        }
        assert!(
            blobs
                .list()
                .try_collect::<Vec<_>>()
                .await
                .unwrap()
                .is_empty()
        );
        drop(writer);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
