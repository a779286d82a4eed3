//! Buckets and paths. A path is a name and never a place in a file system; it still has no segment that means another folder, so
//! that the first segment is the folder that policies and clients see.

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};

use crate::error::{StorageError, invalid_bucket, invalid_key};

const MAX_BUCKET: usize = 100;
const MAX_KEY: usize = 1_024;

/// Upstream's characters of a bucket's name.
fn is_safe(character: char) -> bool {
    character.is_ascii_alphanumeric() || "_!-.*'() &$=@;:+,?".contains(character)
}

/// A name that a bucket may have.
pub fn bucket(name: &str) -> Result<&str, StorageError> {
    let sound = (1..=MAX_BUCKET).contains(&name.len())
        && name.chars().all(is_safe)
        && name.trim() == name
        && !matches!(name, "." | "..");
    sound.then_some(name).ok_or_else(|| invalid_bucket(name))
}

/// A path that an object may have.
pub fn key(name: &str) -> Result<&str, StorageError> {
    let sound = (1..=MAX_KEY).contains(&name.len())
        && name.chars().all(|one| one == '/' || is_safe(one))
        && name
            .split('/')
            .all(|segment| !matches!(segment, "" | "." | ".."));
    sound.then_some(name).ok_or_else(|| invalid_key(name))
}

/// The bucket and the path in the URL of a request, decoded once.
#[derive(Debug, Clone)]
pub struct ObjectName {
    /// The bucket.
    pub bucket: String,
    /// The path.
    pub name: String,
}

impl ObjectName {
    /// Checked.
    pub fn new(bucket_id: &str, name: &str) -> Result<Self, StorageError> {
        Ok(Self {
            bucket: bucket(bucket_id)?.to_owned(),
            name: key(name)?.to_owned(),
        })
    }

    /// `bucket/path`, as clients and signed URLs write it.
    pub fn full(&self) -> String {
        format!("{}/{}", self.bucket, self.name)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ObjectName {
    type Rejection = StorageError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| invalid_key("the URL is not UTF-8"))?;
        let of = |wanted: &str| {
            params
                .iter()
                .find(|(name, _)| *name == wanted)
                .map_or("", |(_, value)| value)
        };
        Self::new(of("bucket"), of("path"))
    }
}

/// The bucket in the URL of a request.
#[derive(Debug, Clone)]
pub struct BucketName(pub String);

impl<S: Send + Sync> FromRequestParts<S> for BucketName {
    type Rejection = StorageError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| invalid_bucket("the URL is not UTF-8"))?;
        let name = params
            .iter()
            .find(|(name, _)| *name == "bucket")
            .map_or("", |(_, value)| value);
        Ok(Self(bucket(name)?.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_in_its_folder() {
        for bad in [
            "", "/a", "a/", "a//b", "a/../b", "..", "a/./b", "a\\b", "a\0b", "a%2fb", "é", "a\nb",
        ] {
            assert!(key(bad).is_err(), "{bad:?}");
        }
        for good in [
            "a",
            "a/b.txt",
            "a b/c!'(1)",
            "..a/b..",
            "a=b&c+d,e;f:g@h?i$j*",
        ] {
            assert!(key(good).is_ok(), "{good:?}");
        }
        assert!(key(&"a".repeat(1_025)).is_err());
    }

    #[test]
    fn a_bucket_is_one_segment() {
        for bad in ["", "a/b", "..", " a", &"a".repeat(101)] {
            assert!(bucket(bad).is_err(), "{bad:?}");
        }
        assert!(bucket("avatars.v2").is_ok());
    }
}
