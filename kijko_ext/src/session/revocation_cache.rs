//! Revoked sessions in shared memory. cache_state.rs says from which tables the sessions come, and whether all of them are here.

use std::hash::Hasher;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use pgrx::pg_sys;

use super::cache_state::{CacheState, MAX_TABLES};
use crate::guc;
use crate::shmem::Region;
use crate::shmem::set_associative::{AtomicKey, Key, KeyedSlot, Table};

const LOCKS: usize = 64;

static TABLE: Table<Header, Slot, LOCKS> = Table::new();

pub const SHMEM_REGION: Region = Region {
    name: c"kijko sessions",
    size: || TABLE.size(guc::session_slots()),
    locks: LOCKS,
    attach: |start, locks| unsafe { TABLE.attach(start, locks, guc::session_slots()) },
};

#[repr(C, align(64))]
struct Header {
    loads: AtomicU64,
    full: AtomicU64,
    states: [CacheState; MAX_TABLES],
}

/// 32 bytes, two to a cache line. A zero key marks an empty slot.
#[repr(C)]
struct Slot {
    key: AtomicKey,
    /// In Postgres microseconds. Afterwards no token of the session is valid, and another session may take the slot.
    expires_at: AtomicI64,
    /// The index of its table's state.
    table: AtomicU64,
}

impl KeyedSlot for Slot {
    type Key = Key;

    fn holds(&self, key: Key) -> bool {
        self.key.is(key)
    }
}

impl Slot {
    fn expires_at(&self) -> i64 {
        self.expires_at.load(Ordering::Acquire)
    }
}

pub fn states() -> &'static [CacheState; MAX_TABLES] {
    &TABLE.header().states
}

fn count(counter: fn(&Header) -> &AtomicU64) {
    counter(TABLE.header()).fetch_add(1, Ordering::Relaxed);
}

fn key(table: usize, session: &[u8; 16]) -> Key {
    let [a, b] = TABLE.hash(|hasher| {
        hasher.write_usize(table);
        hasher.write(session);
    });
    [a, b | 1] // never the zero key of an empty slot
}

/// Whether the session is in the cache and its revocation has not expired.
pub fn contains(table: usize, session: &[u8; 16], now: i64) -> bool {
    let key = key(table, session);
    let set = TABLE.set_of(key[0]);
    let _shared = TABLE.lock(set, pg_sys::LWLockMode::LW_SHARED);
    TABLE
        .find(set, key)
        .is_some_and(|slot| slot.expires_at() > now)
}

/// False when all slots that it may take hold revocations that have not expired.
pub fn insert(table: usize, session: &[u8; 16], expires_at: i64, now: i64) -> bool {
    let key = key(table, session);
    let set = TABLE.set_of(key[0]);
    // A revocation is never shortened.
    let extend = |slot: &Slot| slot.expires_at.fetch_max(expires_at, Ordering::AcqRel);
    let empty_or_expired =
        |slot: &Slot| (slot.holds([0; 2]) || slot.expires_at() < now).then_some(());
    let inserted = TABLE.update(set, key, extend, empty_or_expired, |free, ()| {
        free.key.store(key);
        free.expires_at.store(i64::MIN, Ordering::Relaxed);
        free.table.store(table as u64, Ordering::Relaxed);
    });
    if inserted.is_none() {
        count(|header| &header.full);
    }
    inserted.is_some()
}

/// Removes the sessions of a table, to load them again.
pub fn clear(table: usize) {
    count(|header| &header.loads);
    for set in 0..TABLE.sets() {
        let _exclusive = TABLE.lock(set, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let its = |slot: &&Slot| slot.table.load(Ordering::Relaxed) == table as u64;
        for slot in TABLE.ways(set).filter(its) {
            slot.key.store([0; 2]);
        }
    }
}

/// Figures for `kijko.stats()`, since the server started.
pub fn stats() -> [(&'static str, u64); 4] {
    let used = TABLE.all().filter(|slot| !slot.holds([0; 2]));
    let header = TABLE.header();
    [
        ("session.slots", TABLE.slots() as u64),
        ("session.used", used.count() as u64),
        ("session.loads", header.loads.load(Ordering::Relaxed)),
        ("session.full", header.full.load(Ordering::Relaxed)),
    ]
}
