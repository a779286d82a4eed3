//! The keys that seal and unseal. Free of Postgres.
//!
//! Each line of the file is a key: its id, a space, and 32 random bytes in base64. Empty lines and lines that begin with `#`
//! are ignored. The id is the start of a hash of the key. So a mistyped key is detected, and an id identifies one key.

use std::fmt::{self, Write};

use aws_lc_rs::aead::{AES_256_GCM_SIV, LessSafeKey, UnboundKey};
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::key_file::{self, FileError};

const KEY_BYTES: usize = 32;
/// Hexadecimal digits.
pub const ID_LENGTH: usize = 16;
/// Separates this hash of a key from any other.
const ID_LABEL: &[u8] = b"kijko seal key 1\0";

/// Why `kijko.seal_key_file` cannot be used. It never contains any of its content.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum KeyFileError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("it holds no key")]
    Empty,
    #[error("line {0} is not a key: its id, a blank, and 32 random bytes in base64")]
    NotAKey(usize),
    #[error("line {0} repeats a key")]
    Repeated(usize),
}

/// The first key seals, all of them unseal.
#[derive(Debug)]
pub struct Keys(Vec<Key>);

pub struct Key {
    pub id: String,
    pub cipher: LessSafeKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

impl Keys {
    pub fn read(path: &str) -> Result<Self, KeyFileError> {
        let content = key_file::read(path)?;
        Self::parse(&content)
    }

    pub fn parse(content: &[u8]) -> Result<Self, KeyFileError> {
        let mut keys: Vec<Key> = Vec::new();
        for (at, line) in content.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let key = Key::parse(line).ok_or(KeyFileError::NotAKey(at + 1))?;
            if keys.iter().any(|other| other.id == key.id) {
                return Err(KeyFileError::Repeated(at + 1));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(KeyFileError::Empty);
        }
        Ok(Self(keys))
    }

    /// The key that seals.
    pub fn first(&self) -> &Key {
        &self.0[0] // parsing refuses a file without a key
    }

    pub fn find(&self, id: &str) -> Option<&Key> {
        self.0.iter().find(|key| key.id == id)
    }

    pub fn ids(&self) -> Vec<String> {
        self.0.iter().map(|key| key.id.clone()).collect()
    }
}

impl Key {
    fn parse(line: &[u8]) -> Option<Self> {
        let blank = line.iter().position(u8::is_ascii_whitespace)?;
        let (id, encoded) = (&line[..blank], line[blank..].trim_ascii());
        // Larger than a key: the decoder wants room for what the length of its input promises.
        let mut bytes = Zeroizing::new([0; 2 * KEY_BYTES]);
        let length = STANDARD.decode_slice(encoded, bytes.as_mut_slice()).ok()?;
        let key = &bytes[..length];
        // An empty template, and not 32 random bytes.
        if length != KEY_BYTES || key.iter().all(|byte| *byte == key[0]) {
            return None;
        }
        let key = Self {
            id: key_id(key),
            cipher: LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, key).ok()?),
        };
        (key.id.as_bytes() == id).then_some(key)
    }
}

fn key_id(key: &[u8]) -> String {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(ID_LABEL);
    hash.update(key);
    let mut id = String::with_capacity(ID_LENGTH);
    for byte in &hash.finish().as_ref()[..ID_LENGTH / 2] {
        let _ = write!(id, "{byte:02x}");
    }
    id
}

#[cfg(test)]
pub mod unit {
    use super::*;

    /// The key of bytes 0 to 31. Its id was computed by another implementation (Python's hashlib).
    pub const COUNTING: &str = "41428f809d93edc8 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    pub fn line(byte: u8) -> String {
        let mut key = [byte; KEY_BYTES];
        key[0] = !byte;
        format!("{} {}", key_id(&key), STANDARD.encode(key))
    }

    fn error(content: &str) -> KeyFileError {
        Keys::parse(content.as_bytes()).unwrap_err()
    }

    #[test]
    fn the_first_key_seals_and_comments_do_not_count() {
        let file = format!(
            "# made on a Monday\n\n  {COUNTING}\r\n{}\n{}",
            line(1),
            line(2)
        );
        let keys = Keys::parse(file.as_bytes()).unwrap();
        assert_eq!(keys.first().id, "41428f809d93edc8");
        assert_eq!(keys.ids().len(), 3);
        assert!(keys.find(&keys.ids()[2]).is_some());
        assert!(keys.find("0000000000000000").is_none());
    }

    #[test]
    fn anything_but_keys_is_refused_by_its_line_without_its_content() {
        assert_eq!(error(""), KeyFileError::Empty);
        assert_eq!(error("# nothing\n"), KeyFileError::Empty);
        let (id, key) = COUNTING.split_once(' ').unwrap();
        let zeros = [0; KEY_BYTES];
        for bad in [
            "secret".to_owned(),
            key.to_owned(),
            format!("{id}{key}"),
            // Another key than the id says: a mistyped character.
            format!("{id} {}", key.replace('A', "B")),
            format!("{} {key}", "0".repeat(16)),
            format!("{id} {}", &key[..40]),
            format!("{id} {key}{key}"),
            format!("{id} {key} {key}"),
            format!("{id} {}", "A".repeat(4000)),
            format!("{} {}", key_id(&zeros), STANDARD.encode(zeros)),
        ] {
            let refused = error(&format!("{COUNTING}\n{bad}"));
            assert_eq!(refused, KeyFileError::NotAKey(2), "{bad}");
            assert!(!refused.to_string().contains(&key[..8]));
        }
        assert_eq!(
            error(&format!("{COUNTING}\n\n{COUNTING}")),
            KeyFileError::Repeated(3)
        );
    }

    #[test]
    fn no_key_is_printed() {
        let keys = Keys::parse(COUNTING.as_bytes()).unwrap();
        assert_eq!(format!("{keys:?}"), "Keys([Key(41428f809d93edc8)])");
    }
}
