//! When to forget what this backend has cached of the tables: Postgres tells every backend, at the commit of whoever
//! changed them, by the same messages that keep its own caches right. Triggers on the tables send them
//! (kijko.limits_changed), and the DDL that makes, rolls up and detaches partitions.

use std::cell::Cell;

use pgrx::prelude::*;

thread_local! {
    static EPOCH: Cell<u64> = const { Cell::new(1) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
    static WATCHED: Cell<[pg_sys::Oid; 4]> = const { Cell::new([pg_sys::InvalidOid; 4]) };
}

/// Grows whenever something watched has changed. Cached answers of an older epoch are worthless.
pub fn epoch() -> u64 {
    EPOCH.get()
}

/// Takes in what other backends have committed up to now, even when this one holds the locks already.
pub fn accept() {
    // SAFETY: in a transaction.
    unsafe { pg_sys::AcceptInvalidationMessages() };
}

/// Watches these tables; at most four. Anything else may change without notice.
pub fn watch(tables: &[pg_sys::Oid]) {
    if !REGISTERED.replace(true) {
        // SAFETY: the callback is guarded and lives as long as the library.
        unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(invalidated), pg_sys::Datum::null()) };
    }
    let mut watched = [pg_sys::InvalidOid; 4];
    watched[..tables.len()].copy_from_slice(tables);
    WATCHED.set(watched);
}

#[pg_guard]
unsafe extern "C-unwind" fn invalidated(_argument: pg_sys::Datum, table: pg_sys::Oid) {
    // Zero means everything.
    if table == pg_sys::InvalidOid || WATCHED.get().contains(&table) {
        EPOCH.set(EPOCH.get() + 1);
    }
}
