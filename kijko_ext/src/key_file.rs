//! Reads a file of secret keys and notices that it has changed. Free of Postgres.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;

use thiserror::Error;
use zeroize::Zeroizing;

/// No sensible key file is larger. A wrong path may lead to anything.
const MAX_FILE_SIZE: u64 = 64 * 1024;

/// Why a file of keys cannot be used. It never contains any of its content.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FileError {
    #[error("it cannot be read: {0}")]
    Unreadable(std::io::ErrorKind),
    #[error("it is not a regular file of at most 64 KiB")]
    NotAFile,
    #[error("its group may write it, or others may use it; set its mode to 0600")]
    Exposed,
}

/// The content of a file of keys. It is erased when it is dropped.
pub fn read(path: &str) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let unreadable = |error: std::io::Error| FileError::Unreadable(error.kind());
    // Checked before it is opened, because opening a FIFO would wait for a writer.
    let regular = |meta: &fs::Metadata| meta.is_file() && meta.len() <= MAX_FILE_SIZE;
    if !regular(&fs::metadata(path).map_err(unreadable)?) {
        return Err(FileError::NotAFile);
    }
    let mut file = File::open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if !regular(&meta) {
        return Err(FileError::NotAFile);
    }
    // A group may read it, as with Postgres' own TLS key: root:postgres 0640.
    if meta.mode() & 0o027 != 0 {
        return Err(FileError::Exposed);
    }
    // Room for all of it: a buffer that grows would leave copies behind.
    let mut content = Zeroizing::new(vec![0; meta.len() as usize]);
    file.read_exact(&mut content).map_err(unreadable)?;
    Ok(content)
}

/// Identifies the version of a file, to notice that it has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    path: String,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub fn of(path: &str) -> Result<Self, FileError> {
        let meta = fs::metadata(path).map_err(|error| FileError::Unreadable(error.kind()))?;
        Ok(Self {
            path: path.to_owned(),
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

/// What one file contains, read again when the file has changed.
#[derive(Debug)]
pub struct Cache<T>(Option<(Stamp, Rc<T>)>);

impl<T> Cache<T> {
    pub const fn new() -> Self {
        Self(None)
    }

    pub fn get<E: From<FileError>>(
        &mut self,
        path: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Rc<T>, E> {
        // Taken before reading: a change in between is noticed the next time.
        let stamp = Stamp::of(path)?;
        if let Some((of, content)) = &self.0
            && *of == stamp
        {
            return Ok(Rc::clone(content));
        }
        self.0 = None;
        let content = Rc::new(read(path)?);
        self.0 = Some((stamp, Rc::clone(&content)));
        Ok(content)
    }
}

#[cfg(test)]
mod unit {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    fn temporary(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("kijko-{name}-{}", std::process::id()))
    }

    #[test]
    fn only_a_regular_file_is_read() {
        assert_eq!(
            read("/nowhere").unwrap_err(),
            FileError::Unreadable(std::io::ErrorKind::NotFound)
        );
        assert_eq!(read("/dev/zero").unwrap_err(), FileError::NotAFile);
        let path = temporary("large");
        fs::write(&path, vec![b'x'; 64 * 1024 + 1]).unwrap();
        assert_eq!(
            read(path.to_str().unwrap()).unwrap_err(),
            FileError::NotAFile
        );
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn an_exposed_file_is_refused() {
        let path = temporary("exposed");
        let name = path.to_str().unwrap();
        let file = b"the content does not matter";
        fs::write(&path, file).unwrap();
        let set_mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        for mode in [0o604, 0o602, 0o601, 0o620, 0o660] {
            set_mode(mode);
            assert_eq!(read(name).unwrap_err(), FileError::Exposed, "{mode:o}");
        }
        for mode in [0o640, 0o600] {
            set_mode(mode);
            assert_eq!(read(name).unwrap().as_slice(), file, "{mode:o}");
        }
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_changed_file_is_read_again_and_an_unchanged_one_is_not() {
        let path = temporary("changed");
        let name = path.to_str().unwrap();
        let mut reads = 0;
        let mut cache = Cache::new();
        let mut get = || {
            cache.get(name, |path| {
                reads += 1;
                fs::read_to_string(path).map_err(|error| FileError::Unreadable(error.kind()))
            })
        };
        fs::write(&path, "one").unwrap();
        assert_eq!(*get().unwrap(), "one");
        assert_eq!(*get().unwrap(), "one");
        // Replaced by a file of the same size, as a rotation does.
        let new = temporary("changed-new");
        fs::write(&new, "two").unwrap();
        fs::rename(&new, &path).unwrap();
        assert_eq!(*get().unwrap(), "two");
        fs::remove_file(&path).unwrap();
        assert_eq!(
            get().unwrap_err(),
            FileError::Unreadable(std::io::ErrorKind::NotFound)
        );
        fs::write(&path, "three").unwrap();
        assert_eq!(*get().unwrap(), "three");
        fs::remove_file(&path).unwrap();
        assert_eq!(reads, 3);
    }
}
