//! Counts that are not in the ledger yet, in shared memory. Counting takes the lock of a slot shared. A slot can be given to
//! another subject while its count is zero.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::guc;
use crate::shmem::Region;
use crate::shmem::set_associative::{
    AtomicDatabaseKey, DatabaseKey, KeyedSlot, Table, uuid_of_key,
};

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
    /// Grows with each count, so that a worker knows whether it has to look.
    changes: AtomicU64,
    counted: AtomicU64,
    flushed: AtomicU64,
    full: AtomicU64,
    failures: AtomicU64,
    lost: AtomicU64,
}

/// 32 bytes, two to a cache line.
#[repr(C)]
struct Slot {
    subject: AtomicDatabaseKey,
    pending: AtomicU64,
}

impl KeyedSlot for Slot {
    type Key = DatabaseKey;

    fn holds(&self, subject: DatabaseKey) -> bool {
        self.subject.is(subject)
    }
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

impl Slot {
    fn pending(&self) -> u64 {
        self.pending.load(Ordering::Acquire)
    }
}

/// Adds to a subject's count and returns it. None when all slots that it may take are in use.
pub fn add(subject: &[u8; 16], amount: u64) -> Option<u64> {
    let key = DatabaseKey::new(subject);
    let set = TABLE.set_of_key(key);
    let add = |slot: &Slot| slot.pending.fetch_add(amount, Ordering::AcqRel) + amount;
    let without_count = |slot: &Slot| (slot.pending() == 0).then_some(());
    let pending = TABLE.update(set, key, add, without_count, |free, ()| {
        free.subject.store(key);
    });
    match pending {
        Some(_) => {
            header().counted.fetch_add(amount, Ordering::Relaxed);
            header().changes.fetch_add(1, Ordering::Release);
        }
        None => _ = header().full.fetch_add(1, Ordering::Relaxed),
    }
    pending
}

thread_local! {
    /// The changes that this worker has looked at.
    static SEEN: Cell<u64> = const { Cell::new(0) };
}

/// All counts of this database that are not in the ledger. Only its worker takes them from the table.
pub fn counts() -> Vec<PendingCount> {
    let changes = header().changes.load(Ordering::Acquire);
    if SEEN.replace(changes) == changes {
        return Vec::new();
    }
    // A slot with a count keeps its subject, so no lock is needed.
    let pending = (0..TABLE.slots()).map(|at| (at, TABLE.get(at)));
    let pending = pending.filter(|(_, slot)| slot.pending() > 0 && slot.subject.is_own());
    let count = |(at, slot): (usize, &Slot)| PendingCount {
        subject: uuid_of_key(slot.subject.load().uuid),
        amount: slot.pending(),
        slot: at,
    };
    pending.map(count).collect()
}

/// Takes a count from the table: the ledger's counter has it.
pub fn mark_recorded(count: &PendingCount) {
    TABLE
        .get(count.slot)
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

/// Leaves work for this worker's next round.
pub fn look_again() {
    SEEN.set(u64::MAX);
}

pub fn count_failure() {
    header().failures.fetch_add(1, Ordering::Relaxed);
}

/// There was no room for a request's count, here and in its backend.
pub fn count_lost() {
    header().lost.fetch_add(1, Ordering::Relaxed);
}

/// Figures for `kijko.stats()`, since the server started.
pub fn stats() -> [(&'static str, u64); 7] {
    let header = header();
    let used = TABLE.all().filter(|slot| slot.pending() > 0);
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    [
        ("request_counter.slots", TABLE.slots() as u64),
        ("request_counter.used", used.count() as u64),
        ("request_counter.counted", load(&header.counted)),
        ("request_counter.flushed", load(&header.flushed)),
        ("request_counter.full", load(&header.full)),
        ("request_counter.failures", load(&header.failures)),
        ("request_counter.lost", load(&header.lost)),
    ]
}
