//! Where bytes lie: under their version, which is a new UUID for each upload. Nothing that a client names is part of a path, bytes
//! never change once they are stored, and an object is moved without them.

use std::{fs::File, io, ops::Range, path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetRange, GetResultPayload, MultipartUpload,
    ObjectStore, ObjectStoreExt, local::LocalFileSystem, path::Path,
};
use uuid::Uuid;

/// So many bytes are read at once.
const CHUNK: u64 = 256 << 10;

/// The store.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    folder: PathBuf,
}

impl Blobs {
    /// In a folder, which is made.
    pub fn in_folder(folder: &std::path::Path) -> Result<Self, object_store::Error> {
        std::fs::create_dir_all(folder).map_err(|source| Error::Generic {
            store: "folder",
            source: Box::new(source),
        })?;
        let store = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true);
        Ok(Self {
            store: Arc::new(store),
            folder: folder.to_owned(),
        })
    }

    /// Whether bytes can be stored.
    pub async fn is_there(&self) -> bool {
        tokio::fs::metadata(&self.folder)
            .await
            .is_ok_and(|folder| folder.is_dir() && !folder.permissions().readonly())
    }

    /// Bytes that become one when they are complete.
    pub async fn write(&self, version: Uuid) -> Result<Box<dyn MultipartUpload>, Error> {
        self.store.put_multipart(&path(version)).await
    }

    /// A part of the bytes of a version.
    pub async fn read(
        &self,
        version: Uuid,
        range: Range<u64>,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>, Error> {
        let length = range.end - range.start;
        // Without bytes there is no range that could be asked for.
        let wanted = (length > 0).then(|| GetRange::Bounded(range.clone()));
        let options = GetOptions {
            range: wanted,
            ..GetOptions::default()
        };
        let found = self.store.get_opts(&path(version), options).await?;
        Ok(match found.payload {
            GetResultPayload::File(file, _) => of_file(file, range.start, length).left_stream(),
            GetResultPayload::Stream(parts) => parts
                .map(|part| part.map_err(io::Error::other))
                .right_stream(),
        })
    }

    /// The same bytes under another version.
    pub async fn copy(&self, from: Uuid, to: Uuid) -> Result<(), Error> {
        let options = CopyOptions {
            mode: CopyMode::Create,
            ..CopyOptions::default()
        };
        self.store.copy_opts(&path(from), &path(to), options).await
    }

    /// Deletes the bytes of a version, and what an upload left that was killed. Done twice, it does nothing.
    pub async fn delete(&self, version: Uuid) -> Result<(), Error> {
        let staged = self.folder.join(format!("{}#1", path(version)));
        match tokio::fs::remove_file(staged).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::Generic {
                    store: "folder",
                    source: Box::new(error),
                });
            }
            _ => {}
        }
        match self.store.delete(&path(version)).await {
            Err(Error::NotFound { .. }) => Ok(()),
            other => other,
        }
    }
}

/// No folder has too many files.
fn path(version: Uuid) -> Path {
    let name = version.to_string();
    Path::from(format!("{}/{}/{name}", &name[..2], &name[2..4]))
}

/// The store's own stream of a file has parts of 8 KiB, each on another thread.
fn of_file(file: File, start: u64, length: u64) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let file = Arc::new(file);
    stream::try_unfold((file, start, length), async |(file, at, left)| {
        if left == 0 {
            return Ok(None);
        }
        let reader = file.clone();
        let part = tokio::task::spawn_blocking(move || read_part(&reader, at, left.min(CHUNK)));
        let part = part.await.map_err(io::Error::other)??;
        let read = part.len() as u64;
        Ok(Some((part, (file, at + read, left - read))))
    })
}

fn read_part(file: &File, at: u64, wanted: u64) -> io::Result<Bytes> {
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0; wanted as usize];
    file.read_exact_at(&mut buffer, at)?;
    Ok(buffer.into())
}
