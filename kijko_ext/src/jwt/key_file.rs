//! Reads `kijko.jwt_key_file`. Free of Postgres.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use thiserror::Error;

/// No sensible key file is larger. A wrong path may lead to anything.
const MAX_FILE_SIZE: u64 = 64 * 1024;

/// What is wrong with the key file. It never contains any of its content.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum KeyFileError {
    #[error("it cannot be read: {0}")]
    Unreadable(std::io::ErrorKind),
    #[error("it is not a regular file of at most 64 KiB")]
    NotAFile,
    #[error("its group may write it, or others may use it; set its mode to 0600")]
    Exposed,
    #[error("it is not PEM")]
    NotPem,
    #[error("it holds no key")]
    Empty,
    #[error(
        "block {0} is not a PKCS#8 private key (BEGIN PRIVATE KEY): RSA of 2048 bits or more, EC of the curve P-256, or Ed25519"
    )]
    NotAKey(usize),
}

/// The content of a key file.
pub fn read(path: &str) -> Result<Vec<u8>, KeyFileError> {
    let unreadable = |error: std::io::Error| KeyFileError::Unreadable(error.kind());
    // Checked before it is opened, because opening a FIFO would wait for a writer.
    let regular = |meta: &fs::Metadata| meta.is_file() && meta.len() <= MAX_FILE_SIZE;
    if !regular(&fs::metadata(path).map_err(unreadable)?) {
        return Err(KeyFileError::NotAFile);
    }
    let mut file = File::open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if !regular(&meta) {
        return Err(KeyFileError::NotAFile);
    }
    // A group may read it, as with Postgres' own TLS key: root:postgres 0640.
    if meta.mode() & 0o027 != 0 {
        return Err(KeyFileError::Exposed);
    }
    let mut pem = Vec::new();
    file.read_to_end(&mut pem).map_err(unreadable)?;
    Ok(pem)
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
    pub fn of(path: &str) -> Result<Self, KeyFileError> {
        let meta = fs::metadata(path).map_err(|error| KeyFileError::Unreadable(error.kind()))?;
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

#[cfg(test)]
mod unit {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_a_regular_file_is_read() {
        assert_eq!(
            read("/nowhere").unwrap_err(),
            KeyFileError::Unreadable(std::io::ErrorKind::NotFound)
        );
        assert_eq!(read("/dev/zero").unwrap_err(), KeyFileError::NotAFile);
    }

    #[test]
    fn an_exposed_file_is_refused_and_a_change_is_noticed() {
        let path = std::env::temp_dir().join(format!("kijko-keys-{}.pem", std::process::id()));
        let name = path.to_str().unwrap();
        let file = "the content does not matter";
        fs::write(&path, file).unwrap();
        let set_mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        for mode in [0o604, 0o602, 0o601, 0o620, 0o660] {
            set_mode(mode);
            assert_eq!(read(name).unwrap_err(), KeyFileError::Exposed, "{mode:o}");
        }
        for mode in [0o640, 0o600] {
            set_mode(mode);
            assert!(read(name).is_ok(), "{mode:o}");
        }
        let before = Stamp::of(name).unwrap();
        assert_eq!(before, Stamp::of(name).unwrap());
        fs::write(&path, format!("{file}{file}")).unwrap();
        assert_ne!(before, Stamp::of(name).unwrap());
        fs::remove_file(&path).unwrap();
    }
}
