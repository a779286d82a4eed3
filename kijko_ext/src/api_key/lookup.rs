//! Finds a key by the hash of its secret, or by its id. Both read by the newest snapshot; what a hash finds is cached.
//!
//! Each backend caches the keys that it has found by their hashes, until a key of their group changes (pg/cache_stamp.rs).
//! Unknown keys are not cached.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::pg_sys;

use super::format::Hash;
use super::record::{ApiKey, Kind, Stored, Uuid};
use crate::pg::cache_stamp::{self, CacheKind, Group};
use crate::pg::query;
use crate::pg::scan::{self, ScanKey, Tuple};
use crate::pg::value::Value;

/// Columns of kijko.api_key_secrets.
mod secret {
    pub const HASH: i16 = 1;
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

/// Maximum number of entries. When it is reached, the cache is emptied.
const CAPACITY: usize = 4_096;

/// What a secret belongs to.
pub struct Found {
    pub stored: Stored,
    /// Until when the secret is valid; None for the present one.
    pub valid_until: Option<i64>,
    /// The key as calling.rs keeps it.
    pub text: String,
}

struct Entry {
    found: Rc<Found>,
    stamp: u64,
    group: Group,
}

thread_local! {
    static CACHE: RefCell<HashMap<Hash, Entry>> = RefCell::default();
}

pub fn by_hash(hash: &Hash) -> Option<Rc<Found>> {
    cache_stamp::refresh();
    let cached = CACHE.with_borrow(|keys| {
        let entry = keys.get(hash)?;
        cache_stamp::is_valid(entry.stamp, entry.group).then(|| entry.found.clone())
    });
    if cached.is_some() {
        return cached;
    }
    // Not there under an older SQL of the extension.
    query::find_table(c"cache_changes")?;
    let stamp = cache_stamp::take();
    let Some(found) = read(hash).map(Rc::new) else {
        CACHE.with_borrow_mut(|keys| keys.remove(hash));
        return None;
    };
    CACHE.with_borrow_mut(|keys| {
        if keys.len() >= CAPACITY && !keys.contains_key(hash) {
            keys.clear();
        }
        let entry = Entry {
            found: found.clone(),
            stamp,
            group: CacheKind::ApiKeys.of(&found.stored.key.id),
        };
        keys.insert(*hash, entry);
    });
    Some(found)
}

fn read(hash: &Hash) -> Option<Found> {
    let secrets = query::find_table(c"api_key_secrets")?;
    scan::with_latest_snapshot(|snapshot| {
        let read = |row: &Tuple| {
            let id = row.uuid(secret::API_KEY_ID)?;
            Some((id, row.integer(secret::VALID_UNTIL)))
        };
        // SAFETY: the primary key is of type bytea.
        let (id, valid_until) = unsafe {
            let key = ScanKey::new(secret::HASH, Value::Bytes(hash));
            scan::find(secrets, &[key], snapshot, read).flatten()?
        };
        let stored = in_snapshot(&id, snapshot)?;
        let text = stored.key.to_text();
        Some(Found {
            stored,
            valid_until,
            text,
        })
    })
}

pub fn by_id(id: &Uuid) -> Option<Stored> {
    scan::with_latest_snapshot(|snapshot| in_snapshot(id, snapshot))
}

fn in_snapshot(id: &Uuid, snapshot: pg_sys::Snapshot) -> Option<Stored> {
    let keys = query::find_table(c"api_keys")?;
    // SAFETY: the primary key is of type uuid.
    let key = ScanKey::new(column::ID as i16, id);
    unsafe { scan::find(keys, &[key], snapshot, stored).flatten() }
}

fn stored(row: &Tuple) -> Option<Stored> {
    let rate_limit = row.integer(column::RATE_LIMIT);
    Some(Stored {
        key: Rc::new(ApiKey {
            id: row.uuid(column::ID)?,
            organization: row.uuid(column::ORG_ID)?,
            kind: Kind::parse(&row.text(column::KIND)?)?,
            owner: row.uuid(column::USER_ID),
            permissions: row.texts(column::PERMISSIONS)?,
            rate_limit: rate_limit.and_then(|rate| u32::try_from(rate).ok()),
        }),
        expires_at: row.integer(column::EXPIRES_AT),
        revoked_at: row.integer(column::REVOKED_AT),
        suspended_until: row.integer(column::SUSPENDED_UNTIL),
        origins: row.texts(column::ORIGINS).unwrap_or_default(),
    })
}
