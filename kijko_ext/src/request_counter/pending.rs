//! Counts that are not in the ledger yet, in shared memory: sets of eight slots, with a lock for each of 64 partitions. Counting
//! takes the lock shared. Giving a slot to another subject takes it exclusive, and is possible while its count is zero.

use std::hash::Hasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pgrx::prelude::*;

use crate::guc;
use crate::shmem::Region;
use crate::shmem::set_associative::{Table, WAYS};

const LOCKS: usize = 64;

static TABLE: Table<Header, Slot, LOCKS> = Table::new();

pub const SHMEM_REGION: Region = Region {
    name: c"kijko request counter",
    size: || TABLE.size(guc::request_counter_slots()),
    locks: LOCKS,
    attach: |start, locks| unsafe { TABLE.attach(start, locks, guc::request_counter_slots()) },
};

#[repr(C, align(64))]
struct Header {
    /// Whether anything was counted since the worker looked.
    dirty: AtomicBool,
    counted: AtomicU64,
    flushed: AtomicU64,
    full: AtomicU64,
    failures: AtomicU64,
}

/// 32 bytes, two to a cache line.
#[repr(C)]
struct Slot {
    subject: [AtomicU64; 2],
    pending: AtomicU64,
    unused: u64,
}

/// What the worker moves to the ledger.
#[derive(Clone, Copy)]
pub struct PendingCount {
    pub subject: [u8; 16],
    pub amount: u64,
    slot: usize,
}

fn header() -> &'static Header {
    TABLE.header()
}

fn slot(at: usize) -> &'static Slot {
    // SAFETY: all of it is atomic.
    unsafe { &*TABLE.slot(at) }
}

impl Slot {
    fn is(&self, words: [u64; 2]) -> bool {
        self.subject[0].load(Ordering::Relaxed) == words[0]
            && self.subject[1].load(Ordering::Relaxed) == words[1]
    }

    fn pending(&self) -> u64 {
        self.pending.load(Ordering::Acquire)
    }
}

fn words(subject: &[u8; 16]) -> [u64; 2] {
    let [a, b] = [&subject[..8], &subject[8..]].map(|half| {
        let mut word = [0; 8];
        word.copy_from_slice(half);
        u64::from_ne_bytes(word)
    });
    [a, b]
}

fn set_of(words: [u64; 2]) -> usize {
    TABLE.set_of(TABLE.half(0, |hasher| {
        hasher.write_u64(words[0]);
        hasher.write_u64(words[1]);
    }))
}

/// Adds to a subject's count and returns it. None when all slots that it may take are in use.
pub fn add(subject: &[u8; 16], amount: u64) -> Option<u64> {
    let words = words(subject);
    let set = set_of(words);
    let slots = || (set * WAYS..(set + 1) * WAYS).map(slot);
    let add = |slot: &Slot| slot.pending.fetch_add(amount, Ordering::AcqRel) + amount;
    let pending = {
        let _shared = TABLE.lock(set, pg_sys::LWLockMode::LW_SHARED);
        slots().find(|slot| slot.is(words)).map(add)
    };
    let pending = pending.or_else(|| {
        let _exclusive = TABLE.lock(set, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let free = || slots().find(|slot| slot.pending() == 0);
        let slot = slots().find(|slot| slot.is(words)).or_else(free)?;
        slot.subject[0].store(words[0], Ordering::Relaxed);
        slot.subject[1].store(words[1], Ordering::Relaxed);
        Some(add(slot))
    });
    match pending {
        Some(_) => {
            header().counted.fetch_add(amount, Ordering::Relaxed);
            if !header().dirty.load(Ordering::Relaxed) {
                header().dirty.store(true, Ordering::Release);
            }
        }
        None => _ = header().full.fetch_add(1, Ordering::Relaxed),
    }
    pending
}

/// All counts that are not in the ledger. Only the worker takes from the table.
pub fn counts() -> Vec<PendingCount> {
    if !header().dirty.swap(false, Ordering::AcqRel) {
        return Vec::new();
    }
    (0..TABLE.slots())
        .filter(|&at| slot(at).pending() > 0)
        .map(|at| {
            // A slot with a count keeps its subject, so no lock is needed.
            let [a, b] = &slot(at).subject;
            let mut subject = [0; 16];
            subject[..8].copy_from_slice(&a.load(Ordering::Relaxed).to_ne_bytes());
            subject[8..].copy_from_slice(&b.load(Ordering::Relaxed).to_ne_bytes());
            PendingCount {
                subject,
                amount: slot(at).pending(),
                slot: at,
            }
        })
        .collect()
}

/// Takes a count from the table: the ledger's counter has it.
pub fn mark_recorded(count: &PendingCount) {
    slot(count.slot)
        .pending
        .fetch_sub(count.amount, Ordering::AcqRel);
    header().flushed.fetch_add(count.amount, Ordering::Relaxed);
}

/// Puts a count back that did not reach the ledger. False when there is no room any more.
pub fn restore(count: &PendingCount) -> bool {
    header().flushed.fetch_sub(count.amount, Ordering::Relaxed);
    header().counted.fetch_sub(count.amount, Ordering::Relaxed);
    add(&count.subject, count.amount).is_some()
}

/// Leaves work for the next round.
pub fn mark_dirty() {
    header().dirty.store(true, Ordering::Release);
}

pub fn count_failure() {
    header().failures.fetch_add(1, Ordering::Relaxed);
}

/// Figures for `kijko.stats()`, since the server started.
pub fn stats() -> [(&'static str, u64); 6] {
    let header = header();
    let used = (0..TABLE.slots()).filter(|&at| slot(at).pending() > 0);
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    [
        ("request_counter.slots", TABLE.slots() as u64),
        ("request_counter.used", used.count() as u64),
        ("request_counter.counted", load(&header.counted)),
        ("request_counter.flushed", load(&header.flushed)),
        ("request_counter.full", load(&header.full)),
        ("request_counter.failures", load(&header.failures)),
    ]
}
