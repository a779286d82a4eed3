//! What has come of a part that goes to S3: in a file without a name, so that a sender who takes an hour for a part holds disk and no
//! memory. Whatever ends the upload, the file is gone with its handle.

use std::{fs::File, io, os::unix::fs::FileExt, path::PathBuf, sync::Arc};

use bytes::{Bytes, BytesMut};

/// The bytes of one part.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    file: Option<Arc<File>>,
    bytes: u64,
}

impl Spool {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            file: None,
            bytes: 0,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds bytes. If that fails, the upload cannot go on.
    pub(super) async fn add(&mut self, bytes: Bytes) -> io::Result<()> {
        let (folder, file, at) = (self.folder.clone(), self.file.take(), self.bytes);
        self.bytes += bytes.len() as u64;
        let file = blocking(move || {
            let file = match file {
                Some(file) => file,
                None => Arc::new(tempfile::tempfile_in(folder)?),
            };
            file.write_all_at(&bytes, at)?;
            Ok(file)
        });
        self.file = Some(file.await?);
        Ok(())
    }

    /// Takes all of them out, and `more` behind them. The next part begins in the same file.
    pub(super) async fn take(&mut self, more: Bytes) -> io::Result<Bytes> {
        let Some(file) = self.file.clone() else {
            return Ok(more);
        };
        let bytes = std::mem::take(&mut self.bytes) as usize;
        blocking(move || {
            let mut part = BytesMut::zeroed(bytes);
            file.read_exact_at(&mut part, 0)?;
            part.extend_from_slice(&more);
            Ok(part.freeze())
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn parts_follow_each_other_in_one_file_without_a_name() {
        let folder = std::env::temp_dir().join(format!("kijko-spool-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        let mut spool = Spool::new(folder.clone());
        assert_eq!(spool.take(Bytes::from("kept")).await.unwrap(), "kept");
        for (pieces, more, part) in [
            (
                ["a long", " part"],
                " with a rest",
                "a long part with a rest",
            ),
            (["a", "b"], "", "ab"),
        ] {
            for piece in pieces {
                spool.add(Bytes::from(piece)).await.unwrap();
            }
            assert_eq!(spool.bytes() as usize, pieces.concat().len());
            assert_eq!(spool.take(Bytes::from(more)).await.unwrap(), part);
            assert_eq!(spool.bytes(), 0);
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        std::fs::remove_dir(&folder).unwrap();
        let mut lost = Spool::new(folder);
        assert!(lost.add(Bytes::from("x")).await.is_err());
    }
}
