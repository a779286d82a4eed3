//! Cache invalidation. An epoch grows whenever one of some tables may have changed; whatever was read under an older epoch
//! must be read again.
//!
//! Postgres sends relation-cache invalidations to every backend when the changing transaction commits, before its commit
//! returns. It does so on standbys and for prepared transactions, too. Statement triggers on the tables request the messages.
//! A transaction's own changes raise its epoch at once, and again if they are rolled back.

use std::cell::Cell;
use std::ptr;

use pgrx::prelude::*;

const MAX_TABLES: usize = 3;

/// The epoch of some tables. Static, because Postgres keeps its address.
pub struct RelcacheEpoch {
    epoch: Cell<u64>,
    registered: Cell<bool>,
    tables: Cell<[pg_sys::Oid; MAX_TABLES]>,
}

// SAFETY: a backend has one thread.
unsafe impl Sync for RelcacheEpoch {}

impl RelcacheEpoch {
    pub const fn new() -> Self {
        Self {
            epoch: Cell::new(1),
            registered: Cell::new(false),
            tables: Cell::new([pg_sys::InvalidOid; MAX_TABLES]),
        }
    }

    /// Watches these tables and returns the current epoch. A caller takes its snapshot after this call and caches what it
    /// reads under the returned epoch: a change that the snapshot missed commits later and raises the epoch.
    pub fn watch(&'static self, tables: &[pg_sys::Oid]) -> u64 {
        if !self.registered.replace(true) {
            let this = pg_sys::Datum::from(ptr::from_ref(self));
            // SAFETY: the callback is guarded and lives as long as the library, as does its argument.
            unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(invalidated), this) };
        }
        let mut watched = [pg_sys::InvalidOid; MAX_TABLES];
        watched[..tables.len()].copy_from_slice(tables);
        self.tables.set(watched);
        self.refresh()
    }

    /// Processes pending invalidations, then returns the epoch. Needed where no lock is taken: Postgres itself processes
    /// them only with a lock that the transaction does not hold yet.
    pub fn refresh(&self) -> u64 {
        // SAFETY: in a transaction.
        unsafe { pg_sys::AcceptInvalidationMessages() };
        self.current()
    }

    /// The epoch as of the invalidations that were processed last.
    pub fn current(&self) -> u64 {
        self.epoch.get()
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn invalidated(epoch: pg_sys::Datum, table: pg_sys::Oid) {
    // SAFETY: as registered.
    let this = unsafe { &*epoch.cast_mut_ptr::<RelcacheEpoch>() };
    // Zero means every table.
    if table == pg_sys::InvalidOid || this.tables.get().contains(&table) {
        this.epoch.set(this.epoch.get() + 1);
    }
}
