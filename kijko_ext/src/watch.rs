//! When to forget what this backend has cached of tables: Postgres tells every backend at the commit of whoever changed
//! them, by the same messages that keep its own caches right, also on standbys and for prepared transactions. Triggers
//! send them. A transaction's own changes count at once, and again when it is rolled back.

use std::cell::Cell;
use std::ptr;

use pgrx::prelude::*;

const MOST: usize = 3;

/// Some tables. Static: Postgres keeps its address.
pub struct Watch {
    epoch: Cell<u64>,
    registered: Cell<bool>,
    tables: Cell<[pg_sys::Oid; MOST]>,
}

// SAFETY: a backend has one thread.
unsafe impl Sync for Watch {}

impl Watch {
    pub const fn new() -> Self {
        Self {
            epoch: Cell::new(1),
            registered: Cell::new(false),
            tables: Cell::new([pg_sys::InvalidOid; MOST]),
        }
    }

    /// Begins to watch these tables, and says what they are as of. What is read by a snapshot taken after this call may
    /// be kept under that epoch: whoever commits a change later makes it an old one.
    pub fn begin(&'static self, tables: &[pg_sys::Oid]) -> u64 {
        if !self.registered.replace(true) {
            let this = pg_sys::Datum::from(ptr::from_ref(self));
            // SAFETY: the callback is guarded and lives as long as the library, as does its argument.
            unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(invalidated), this) };
        }
        let mut watched = [pg_sys::InvalidOid; MOST];
        watched[..tables.len()].copy_from_slice(tables);
        self.tables.set(watched);
        self.now()
    }

    /// The epoch, with what others have committed up to now, even when this transaction holds the tables' locks already.
    pub fn now(&self) -> u64 {
        // SAFETY: in a transaction.
        unsafe { pg_sys::AcceptInvalidationMessages() };
        self.seen()
    }

    /// The epoch, with what others had committed when a lock was last taken.
    pub fn seen(&self) -> u64 {
        self.epoch.get()
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn invalidated(watch: pg_sys::Datum, table: pg_sys::Oid) {
    // SAFETY: as registered.
    let watch = unsafe { &*watch.cast_mut_ptr::<Watch>() };
    // Zero means everything.
    if table == pg_sys::InvalidOid || watch.tables.get().contains(&table) {
        watch.epoch.set(watch.epoch.get() + 1);
    }
}
