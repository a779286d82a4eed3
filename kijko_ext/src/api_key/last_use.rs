//! When each key was last used, in shared memory. A use takes the lock of its slot shared. The worker of the database writes
//! each key's last use to kijko.api_key_uses, about once a minute (last_use_writer.rs). A crash loses the uses since then.

use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use pgrx::prelude::*;

use super::record::Uuid;
use crate::guc::api_keys as setting;
use crate::pg::query;
use crate::pg::scan::{self, ScanKey, Tuple};
use crate::shmem::Region;
use crate::shmem::set_associative::{
    AtomicDatabaseKey, DatabaseKey, KeyedSlot, Table, WAYS, uuid_of_key,
};

const LOCKS: usize = 64;

static TABLE: Table<Header, Slot, LOCKS> = Table::new();

pub const SHMEM_REGION: Region = Region {
    name: c"kijko API keys",
    size: || TABLE.size(setting::slots()),
    locks: LOCKS,
    attach: |start, locks| unsafe { TABLE.attach(start, locks, setting::slots()) },
};

#[repr(C, align(64))]
struct Header {
    /// Grows with each use, so that a worker knows whether it has to look.
    changes: AtomicU64,
    lost: AtomicU64,
    written: AtomicU64,
}

/// All zero is an empty slot.
#[repr(C)]
struct Slot {
    key: AtomicDatabaseKey,
    /// In product time, Postgres microseconds; 0 for none.
    used_at: AtomicI64,
    /// The use that the table has, as far as this slot knows; 0 for none.
    written: AtomicI64,
    /// When the worker last wrote it, by the real clock.
    written_at: AtomicI64,
}

/// A use that the table does not have.
#[derive(Clone, Copy)]
pub struct Unwritten {
    pub key: Uuid,
    pub used_at: i64,
    slot: usize,
}

impl KeyedSlot for Slot {
    type Key = DatabaseKey;

    fn holds(&self, key: DatabaseKey) -> bool {
        self.key.is(key)
    }
}

impl Slot {
    fn used_at(&self) -> i64 {
        self.used_at.load(Ordering::Acquire)
    }

    fn is_written(&self) -> bool {
        self.used_at() == self.written.load(Ordering::Relaxed)
    }
}

/// Notes a use.
pub fn note(key: &Uuid, at: i64) {
    let key = DatabaseKey::new(key);
    let set = TABLE.set_of_key(key);
    let note = |slot: &Slot| slot.used_at.store(at, Ordering::Release);
    // The least recently used slot whose use is written to the table. If there is none, the oldest use is lost.
    let rank = |slot: &Slot| Some((!slot.is_written(), slot.used_at()));
    TABLE.update(set, key, note, rank, |slot, (is_lost, _)| {
        TABLE
            .header()
            .lost
            .fetch_add(u64::from(is_lost), Ordering::Relaxed);
        slot.key.store(key);
        slot.written.store(0, Ordering::Relaxed);
        slot.written_at.store(0, Ordering::Relaxed);
    });
    TABLE.header().changes.fetch_add(1, Ordering::Release);
}

/// The last use that is noted here.
pub fn noted(key: &Uuid) -> Option<i64> {
    let key = DatabaseKey::new(key);
    let set = TABLE.set_of_key(key);
    let _shared = TABLE.lock(set, pg_sys::LWLockMode::LW_SHARED);
    let used_at = TABLE.find(set, key)?.used_at();
    (used_at != 0).then_some(used_at)
}

/// The last use that the table has.
pub fn written(key: &Uuid) -> Option<i64> {
    const LAST_USED_AT: i32 = 2;
    let table = query::table(c"api_key_uses");
    scan::with_latest_snapshot(|snapshot| {
        let read = |row: &Tuple| row.integer(LAST_USED_AT);
        // SAFETY: the primary key is of type uuid.
        unsafe { scan::find(table, &[ScanKey::new(1, key)], snapshot, read).flatten() }
    })
}

thread_local! {
    /// The changes that this worker has looked at.
    static SEEN: Cell<u64> = const { Cell::new(0) };
}

/// Uses in this database that the table does not have, of keys that were last written before `before`. Says whether there are others.
pub fn unwritten(before: i64) -> (Vec<Unwritten>, bool) {
    let changes = TABLE.header().changes.load(Ordering::Acquire);
    if SEEN.replace(changes) == changes {
        return (Vec::new(), false);
    }
    let mut due = Vec::new();
    let mut others = false;
    for set in 0..TABLE.sets() {
        // So that no slot changes its key meanwhile.
        let _shared = TABLE.lock(set, pg_sys::LWLockMode::LW_SHARED);
        for at in set * WAYS..(set + 1) * WAYS {
            let slot = TABLE.get(at);
            if slot.is_written() || !slot.key.is_own() {
                continue;
            }
            if slot.written_at.load(Ordering::Relaxed) > before {
                others = true;
                continue;
            }
            due.push(Unwritten {
                key: uuid_of_key(slot.key.load().uuid),
                used_at: slot.used_at(),
                slot: at,
            });
        }
    }
    (due, others)
}

/// The worker has written a use, at a time of the real clock, or there is no such key any more.
pub fn mark_written(written: &Unwritten, at: i64) {
    let set = written.slot / WAYS;
    let _exclusive = TABLE.lock(set, pg_sys::LWLockMode::LW_EXCLUSIVE);
    let slot = TABLE.get(written.slot);
    if slot.holds(DatabaseKey::new(&written.key)) {
        slot.written.store(written.used_at, Ordering::Relaxed);
        slot.written_at.store(at, Ordering::Relaxed);
    }
    TABLE.header().written.fetch_add(1, Ordering::Relaxed);
}

/// Leaves work for this worker's next round.
pub fn look_again() {
    SEEN.set(u64::MAX);
}

/// Figures for `kijko.stats()`, since the server started.
pub fn stats() -> [(&'static str, u64); 4] {
    let used = TABLE.all().filter(|slot| slot.used_at() != 0);
    let header = TABLE.header();
    [
        ("api_key.slots", TABLE.slots() as u64),
        ("api_key.used", used.count() as u64),
        (
            "api_key.uses_written",
            header.written.load(Ordering::Relaxed),
        ),
        ("api_key.uses_lost", header.lost.load(Ordering::Relaxed)),
    ]
}
