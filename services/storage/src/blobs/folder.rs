//! Bytes as files. Each is written under another name, flushed to the disk and renamed, so that a file is whole or not there.

use std::{
    fs::{self, File},
    io,
    ops::Range,
    path::{Path as FilePath, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetRange, GetResultPayload, MultipartUpload,
    ObjectStore, ObjectStoreExt, PutPayload, local::LocalFileSystem,
};
use uuid::Uuid;

use super::{Entry, failed, path, version_of};

/// So many bytes are read at once.
const CHUNK: u64 = 256 << 10;
/// What a file has behind its name while it is being written.
const STAGED: &str = "#1";

/// A folder.
#[derive(Debug)]
pub struct Folder {
    store: LocalFileSystem,
    folder: PathBuf,
}

impl Folder {
    pub(super) fn open(folder: &FilePath) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(generic)?;
        Ok(Self {
            store: LocalFileSystem::new_with_prefix(folder)?.with_fsync(true),
            folder: folder.to_owned(),
        })
    }

    pub(super) async fn probe(&self) -> Result<(), Error> {
        let found = tokio::fs::metadata(&self.folder).await.map_err(generic)?;
        match found.is_dir() && !found.permissions().readonly() {
            true => Ok(()),
            false => Err(generic(io::Error::from(io::ErrorKind::PermissionDenied))),
        }
    }

    pub(super) async fn put(&self, version: Uuid, bytes: PutPayload) -> Result<(), Error> {
        self.store.put(&path(version), bytes).await.map(drop)
    }

    pub(super) async fn begin(&self, version: Uuid) -> Result<Box<dyn MultipartUpload>, Error> {
        self.store.put_multipart(&path(version)).await
    }

    pub(super) async fn read(
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

    pub(super) async fn copy(&self, from: Uuid, to: Uuid) -> Result<(), Error> {
        let options = CopyOptions {
            mode: CopyMode::Create,
            ..CopyOptions::default()
        };
        self.store.copy_opts(&path(from), &path(to), options).await
    }

    pub(super) async fn delete(&self, version: Uuid) -> Result<(), Error> {
        let staged = self.folder.join(format!("{}{STAGED}", path(version)));
        match tokio::fs::remove_file(staged).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(generic(error)),
            _ => {}
        }
        match self.store.delete(&path(version)).await {
            Err(Error::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    pub(super) async fn size(&self, version: Uuid) -> Result<u64, Error> {
        Ok(self.store.head(&path(version)).await?.size)
    }

    /// Also files that are being written, which the store's own list leaves out.
    pub(super) fn list(&self) -> impl Stream<Item = Result<Entry, Error>> + Send + use<> {
        let folder = self.folder.clone();
        let listed = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            walk(&folder, &folder, &mut found).map(|()| found)
        });
        stream::once(async move {
            match listed
                .await
                .unwrap_or_else(|gone| Err(io::Error::other(gone)))
            {
                Ok(found) => stream::iter(found.into_iter().map(Ok)).left_stream(),
                Err(error) => failed(generic(error)).right_stream(),
            }
        })
        .flatten()
    }
}

/// What is deleted meanwhile is left out.
fn walk(root: &FilePath, folder: &FilePath, found: &mut Vec<Entry>) -> io::Result<()> {
    for item in fs::read_dir(folder)? {
        let item = item?;
        let place = item.path();
        let known = match item.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            known => known?,
        };
        if known.is_dir() {
            walk(root, &place, found)?;
            continue;
        }
        let below = place.strip_prefix(root).unwrap_or(&place);
        let Some(name) = below.to_str() else { continue };
        let whole = name.split_once('#').map_or(name, |(whole, _)| whole);
        if let (Some(version), true) = (version_of(whole), known.is_file()) {
            found.push(Entry {
                name: place.display().to_string(),
                version,
                bytes: known.len(),
                complete: whole == name,
            });
        }
    }
    Ok(())
}

fn generic(source: io::Error) -> Error {
    Error::Generic {
        store: "folder",
        source: Box::new(source),
    }
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
