//! Finds a key by the hash of its secret, or by its id. Both are index scans by the newest snapshot, so whatever was committed
//! before a request started counts in it.

use pgrx::pg_sys;

use super::format::Hash;
use super::record::{ApiKey, Kind, Stored, Uuid};
use crate::pg::datum::{bytea_datum, uuid_datum};
use crate::pg::primary_key::{self, Tuple};
use crate::pg::query;

/// Columns of kijko.api_key_secrets.
mod secret {
    pub const API_KEY_ID: i32 = 2;
    pub const VALID_UNTIL: i32 = 3;
}

/// Columns of kijko.api_keys.
mod column {
    pub const ID: i32 = 1;
    pub const ORG_ID: i32 = 2;
    pub const USER_ID: i32 = 3;
    pub const KIND: i32 = 4;
    pub const PERMISSIONS: i32 = 5;
    pub const RATE_LIMIT: i32 = 6;
    pub const EXPIRES_AT: i32 = 9;
    pub const REVOKED_AT: i32 = 10;
    pub const SUSPENDED_UNTIL: i32 = 11;
    pub const ORIGINS: i32 = 12;
}

/// The key of a secret, and until when the secret is valid.
pub fn by_hash(hash: &Hash) -> Option<(Stored, Option<i64>)> {
    let secrets = query::find_table(c"api_key_secrets")?;
    with_latest_snapshot(|snapshot| {
        let read = |row: &Tuple| {
            let id = row.uuid(secret::API_KEY_ID)?;
            Some((id, row.integer(secret::VALID_UNTIL)))
        };
        // SAFETY: the primary key is of type bytea.
        let (id, valid_until) = unsafe {
            let equals = pg_sys::F_BYTEAEQ;
            primary_key::find(secrets, bytea_datum(hash), equals, snapshot, read).flatten()?
        };
        Some((in_snapshot(&id, snapshot)?, valid_until))
    })
}

pub fn by_id(id: &Uuid) -> Option<Stored> {
    with_latest_snapshot(|snapshot| in_snapshot(id, snapshot))
}

fn in_snapshot(id: &Uuid, snapshot: pg_sys::Snapshot) -> Option<Stored> {
    let keys = query::find_table(c"api_keys")?;
    // SAFETY: the primary key is of type uuid.
    unsafe {
        primary_key::find(keys, uuid_datum(id), pg_sys::F_UUID_EQ, snapshot, stored).flatten()
    }
}

fn stored(row: &Tuple) -> Option<Stored> {
    let rate_limit = row.integer(column::RATE_LIMIT);
    Some(Stored {
        key: ApiKey {
            id: row.uuid(column::ID)?,
            organization: row.uuid(column::ORG_ID)?,
            kind: Kind::parse(&row.text(column::KIND)?)?,
            owner: row.uuid(column::USER_ID),
            permissions: row.texts(column::PERMISSIONS)?,
            rate_limit: rate_limit.and_then(|rate| u32::try_from(rate).ok()),
        },
        expires_at: row.integer(column::EXPIRES_AT),
        revoked_at: row.integer(column::REVOKED_AT),
        suspended_until: row.integer(column::SUSPENDED_UNTIL),
        origins: row.texts(column::ORIGINS).unwrap_or_default(),
    })
}

fn with_latest_snapshot<T>(body: impl FnOnce(pg_sys::Snapshot) -> T) -> T {
    // SAFETY: an error ends the (sub)transaction, which pops the snapshot.
    unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        let answer = body(pg_sys::GetActiveSnapshot());
        pg_sys::PopActiveSnapshot();
        answer
    }
}
