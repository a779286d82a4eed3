//! When each key was last used, in shared memory: sets of eight slots, with a lock for each of 64 partitions. A use takes its
//! lock shared. The background worker writes each key's last use to kijko.api_key_uses, about once a minute
//! (last_use_writer.rs). A crash loses the uses since then.

use std::hash::Hasher;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use pgrx::prelude::*;

use super::record::Uuid;
use crate::guc::api_keys as setting;
use crate::pg::query::Statement;
use crate::shmem::Region;
use crate::shmem::set_associative::{Table, WAYS};

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
    /// Whether any use was noted since the worker looked.
    dirty: AtomicBool,
    lost: AtomicU64,
    written: AtomicU64,
}

/// All zero is an empty slot.
#[repr(C)]
struct Slot {
    key: [AtomicU64; 2],
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

thread_local! {
    static WRITTEN: Statement = const { Statement::new(
        "select u.last_used_at from kijko.api_key_uses as u where u.api_key_id operator(pg_catalog.=) $1",
        &[pg_sys::UUIDOID],
    ) };
}

fn slot(at: usize) -> &'static Slot {
    // SAFETY: all of it is atomic.
    unsafe { &*TABLE.slot(at) }
}

impl Slot {
    fn is(&self, words: [u64; 2]) -> bool {
        self.key[0].load(Ordering::Relaxed) == words[0]
            && self.key[1].load(Ordering::Relaxed) == words[1]
    }

    fn used_at(&self) -> i64 {
        self.used_at.load(Ordering::Acquire)
    }

    fn is_written(&self) -> bool {
        self.used_at() == self.written.load(Ordering::Relaxed)
    }
}

fn words(key: &Uuid) -> [u64; 2] {
    let value = u128::from_ne_bytes(*key);
    [value as u64, (value >> 64) as u64]
}

fn set_of(words: [u64; 2]) -> usize {
    TABLE.set_of(TABLE.half(0, |hasher| {
        hasher.write_u64(words[0]);
        hasher.write_u64(words[1]);
    }))
}

fn slots(set: usize) -> impl Iterator<Item = &'static Slot> + Clone {
    (set * WAYS..(set + 1) * WAYS).map(slot)
}

/// Notes a use.
pub fn note(key: &Uuid, at: i64) {
    let words = words(key);
    let set = set_of(words);
    let found = {
        let _shared = TABLE.lock(set, pg_sys::LWLockMode::LW_SHARED);
        let found = slots(set).find(|slot| slot.is(words));
        found.inspect(|slot| slot.used_at.store(at, Ordering::Release))
    };
    if found.is_none() {
        let _exclusive = TABLE.lock(set, pg_sys::LWLockMode::LW_EXCLUSIVE);
        claim(set, words).used_at.store(at, Ordering::Release);
    }
    if !TABLE.header().dirty.load(Ordering::Relaxed) {
        TABLE.header().dirty.store(true, Ordering::Release);
    }
}

/// The slot of a key: its own, or one whose use is written, the least recent first. Under the exclusive lock.
fn claim(set: usize, words: [u64; 2]) -> &'static Slot {
    if let Some(own) = slots(set).find(|slot| slot.is(words)) {
        return own;
    }
    let written = slots(set)
        .filter(|slot| slot.is_written())
        .min_by_key(|slot| slot.used_at());
    let claimed = written.unwrap_or_else(|| {
        TABLE.header().lost.fetch_add(1, Ordering::Relaxed);
        slots(set)
            .min_by_key(|slot| slot.used_at())
            .unwrap_or_else(|| slot(set * WAYS))
    });
    claimed.key[0].store(words[0], Ordering::Relaxed);
    claimed.key[1].store(words[1], Ordering::Relaxed);
    claimed.written.store(0, Ordering::Relaxed);
    claimed.written_at.store(0, Ordering::Relaxed);
    claimed
}

/// The last use that is noted here.
pub fn noted(key: &Uuid) -> Option<i64> {
    let words = words(key);
    let set = set_of(words);
    let _shared = TABLE.lock(set, pg_sys::LWLockMode::LW_SHARED);
    let used_at = slots(set).find(|slot| slot.is(words))?.used_at();
    (used_at != 0).then_some(used_at)
}

/// The last use that the table has.
pub fn written(key: &Uuid) -> Option<i64> {
    let read =
        |statement: &Statement| statement.read(&[key.into()], |rows| rows.first()?.integer(1));
    WRITTEN.with(read)
}

/// Uses that the table does not have, of keys that were last written before `before`. Says whether there are others.
pub fn unwritten(before: i64) -> (Vec<Unwritten>, bool) {
    if !TABLE.header().dirty.swap(false, Ordering::AcqRel) {
        return (Vec::new(), false);
    }
    let mut due = Vec::new();
    let mut others = false;
    for set in 0..TABLE.sets() {
        // So that no slot changes its key meanwhile.
        let _shared = TABLE.lock(set, pg_sys::LWLockMode::LW_SHARED);
        for at in set * WAYS..(set + 1) * WAYS {
            let slot = slot(at);
            if slot.is_written() {
                continue;
            }
            if slot.written_at.load(Ordering::Relaxed) > before {
                others = true;
                continue;
            }
            let [a, b] = [0, 1].map(|half| u128::from(slot.key[half].load(Ordering::Relaxed)));
            due.push(Unwritten {
                key: (a | b << 64).to_ne_bytes(),
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
    let slot = slot(written.slot);
    if slot.is(words(&written.key)) {
        slot.written.store(written.used_at, Ordering::Relaxed);
        slot.written_at.store(at, Ordering::Relaxed);
    }
    TABLE.header().written.fetch_add(1, Ordering::Relaxed);
}

/// Leaves work for the next round.
pub fn mark_dirty() {
    TABLE.header().dirty.store(true, Ordering::Release);
}

/// Figures for `kijko.stats()`, since the server started.
pub fn stats() -> [(&'static str, u64); 4] {
    let used = (0..TABLE.slots()).filter(|&at| slot(at).used_at() != 0);
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
