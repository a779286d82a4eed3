//! Revoked sessions in shared memory: sets of eight slots, with a lock for each of 64 partitions of the sets. A look-up takes the
//! lock shared, a change exclusive. cache_state.rs says from which tables the sessions come, and whether all of them are here.

use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, Ordering};

use pgrx::pg_sys;

use super::cache_state::{CacheState, MAX_TABLES};
use crate::guc;
use crate::shmem::Region;
use crate::shmem::set_associative::{Table, WAYS};

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
#[derive(Clone, Copy)]
struct Slot {
    key: [u64; 2],
    /// In Postgres microseconds. Afterwards no token of the session is valid, and another session may take the slot.
    expires_at: i64,
    /// The index of its table's state.
    table: u64,
}

type Set = [Slot; WAYS];

pub fn states() -> &'static [CacheState; MAX_TABLES] {
    &TABLE.header().states
}

fn count(counter: fn(&Header) -> &AtomicU64) {
    counter(TABLE.header()).fetch_add(1, Ordering::Relaxed);
}

/// Runs `body` on a set, under its lock.
fn locked<T>(set: usize, mode: pg_sys::LWLockMode::Type, body: impl FnOnce(&mut Set) -> T) -> T {
    let _held = TABLE.lock(set, mode);
    // SAFETY: a shared lock's body only reads.
    body(unsafe { &mut *TABLE.slot(set * WAYS).cast::<Set>() })
}

fn key(table: usize, session: &[u8; 16]) -> [u64; 2] {
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
    locked(set, pg_sys::LWLockMode::LW_SHARED, |slots| {
        slots
            .iter()
            .any(|slot| slot.key == key && slot.expires_at > now)
    })
}

/// False when all slots that it may take hold revocations that have not expired.
pub fn insert(table: usize, session: &[u8; 16], expires_at: i64, now: i64) -> bool {
    let key = key(table, session);
    let set = TABLE.set_of(key[0]);
    let inserted = locked(set, pg_sys::LWLockMode::LW_EXCLUSIVE, |slots| {
        let same = slots.iter().position(|slot| slot.key == key);
        let free = || {
            let is_free = |slot: &Slot| slot.key == [0; 2] || slot.expires_at < now;
            slots.iter().position(is_free)
        };
        let Some(at) = same.or_else(free) else {
            return false;
        };
        let kept = if same.is_some() {
            slots[at].expires_at
        } else {
            i64::MIN
        };
        slots[at] = Slot {
            key,
            expires_at: expires_at.max(kept),
            table: table as u64,
        };
        true
    });
    if !inserted {
        count(|header| &header.full);
    }
    inserted
}

/// Removes the sessions of a table, to load them again.
pub fn clear(table: usize) {
    count(|header| &header.loads);
    for set in 0..TABLE.sets() {
        locked(set, pg_sys::LWLockMode::LW_EXCLUSIVE, |slots| {
            for slot in slots.iter_mut().filter(|slot| slot.table == table as u64) {
                slot.key = [0; 2];
            }
        });
    }
}

/// Figures for `kijko.stats()`, since the server started.
pub fn stats() -> [(&'static str, u64); 4] {
    let used = |set| {
        locked(set, pg_sys::LWLockMode::LW_SHARED, |slots| {
            slots.iter().filter(|slot| slot.key != [0; 2]).count() as u64
        })
    };
    let header = TABLE.header();
    [
        ("session.slots", TABLE.slots() as u64),
        ("session.used", (0..TABLE.sets()).map(used).sum()),
        ("session.loads", header.loads.load(Ordering::Relaxed)),
        ("session.full", header.full.load(Ordering::Relaxed)),
    ]
}
