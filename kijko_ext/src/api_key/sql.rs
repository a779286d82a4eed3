//! The SQL functions of API keys. api_key.sql has those that write the tables.

use pgrx::Uuid;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use super::{calling, format, issued, last_use, lookup};
use crate::clock;

/// The key that makes this request. Null for any other caller.
#[pg_extern(stable, parallel_safe)]
pub fn api_key_id() -> Option<Uuid> {
    calling::current().map(|key| Uuid::from_bytes(key.id))
}

#[pg_extern(stable, parallel_safe)]
pub fn api_key_permissions() -> Option<Vec<String>> {
    calling::current().map(|key| key.permissions.clone())
}

/// Makes a key the caller for the rest of the transaction, without its secret. False if the key does not exist or is not valid
/// now. Null ends this: the caller is again the one that the claims name.
#[pg_extern(volatile, parallel_unsafe)]
pub fn assume_api_key(id: Option<Uuid>) -> bool {
    let Some(id) = id else {
        calling::clear();
        return true;
    };
    let Some(stored) = lookup::by_id(id.as_bytes()) else {
        return false;
    };
    if stored.problem(clock::now_micros()).is_some() {
        return false;
    }
    calling::set(&stored.key, &stored.key.to_text());
    true
}

#[pg_extern(volatile, parallel_unsafe)]
pub fn generate_api_key(id: Uuid) -> String {
    issued::generate(*id.as_bytes())
}

#[pg_extern(volatile, parallel_unsafe)]
pub fn issued_api_key(id: Uuid) -> Option<String> {
    issued::secret(id.as_bytes())
}

#[pg_extern(volatile, parallel_unsafe)]
pub fn issued_api_key_hash(id: Uuid) -> Option<Vec<u8>> {
    issued::hash(id.as_bytes()).map(|hash| hash.to_vec())
}

/// Uses that are not in the table yet count, too.
#[pg_extern(volatile, parallel_unsafe)]
pub fn api_key_last_used_at(id: Uuid) -> Option<TimestampWithTimeZone> {
    let id = id.as_bytes();
    let at = last_use::noted(id).max(last_use::written(id))?;
    TimestampWithTimeZone::try_from(at).ok()
}

/// The earlier one of the key's expiry and the end of a rotation's overlap.
#[pg_extern(volatile, parallel_unsafe)]
pub fn api_key_valid_until(secret: &str) -> Option<TimestampWithTimeZone> {
    let found = lookup::by_hash(&format::hash(secret))?;
    let ends = [found.stored.expires_at, found.valid_until];
    let at = ends.into_iter().flatten().min()?;
    TimestampWithTimeZone::try_from(at).ok()
}
