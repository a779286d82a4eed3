//! `kijko.subject(kind, id)`: the subject of a limit that is not an organization's. It is derived from kind and id, because
//! users may choose the ids of some rows: a project could have the id of another organization.

use aws_lc_rs::digest;
use pgrx::Uuid;
use pgrx::prelude::*;

use crate::errors;

/// The kind whose subjects are the ids themselves: version 4, never 8.
const ORGANIZATION: &str = "organization";
pub const USER: &str = "user";
pub const API_KEY: &str = "api_key";

#[pg_extern(immutable, parallel_safe)]
fn subject(kind: Option<&str>, id: Option<Uuid>) -> Uuid {
    match (kind, id) {
        (Some(kind), Some(id)) if is_kind(kind) => Uuid::from_bytes(of(kind, id.as_bytes())),
        _ => errors::bad_argument(
            "a subject needs an id and a kind of 1 to 63 small letters and underscores",
        ),
    }
}

/// A uuid of version 8 (RFC 9562): the first bits of SHA-256 over kind and id.
pub fn of(kind: &str, id: &[u8; 16]) -> [u8; 16] {
    if kind == ORGANIZATION {
        return *id;
    }
    let text = [b"kijko.subject\0", kind.as_bytes(), b"\0", id].concat();
    let mut subject = [0; 16];
    subject.copy_from_slice(&digest::digest(&digest::SHA256, &text).as_ref()[..16]);
    subject[6] = subject[6] & 0x0f | 0x80;
    subject[8] = subject[8] & 0x3f | 0x80;
    subject
}

/// Excludes NUL, so that different pairs of kind and id have different inputs to the hash.
fn is_kind(kind: &str) -> bool {
    (1..=63).contains(&kind.len())
        && kind
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn every_kind_has_its_own() {
        let id = [7; 16];
        let user = of(USER, &id);
        assert_eq!(user, of(USER, &id));
        assert_ne!(user, of("project", &id));
        assert_ne!(user, of(USER, &[8; 16]));
        assert_eq!((user[6] >> 4, user[8] >> 6), (8, 2));
        assert_eq!(of(ORGANIZATION, &id), id);
    }

    #[test]
    fn a_kind_is_a_word() {
        assert!(is_kind("api_key"));
        for bad in ["", "User", "a\0b", "a b", &"a".repeat(64)] {
            assert!(!is_kind(bad), "{bad:?}");
        }
    }
}
