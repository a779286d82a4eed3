//! The table of counters in shared memory. It is reserved when the postmaster starts, has a fixed size and is empty after
//! a crash. It consists of sets of eight slots; a key may use any slot of its set. Each of 128 partitions has a lock:
//! shared to look a slot up and pin it, exclusive to give a slot to another key. Counting takes no lock (slot.rs).

use std::hash::Hasher;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use pgrx::pg_sys;

use super::slot::{self, Pin, Word};
use crate::guc;
use crate::shmem::Region;
use crate::shmem::set_associative::Table;
pub use crate::shmem::set_associative::WAYS;

const PARTITIONS: usize = 128;

static TABLE: Table<Header, Slot, PARTITIONS> = Table::new();

pub const SHMEM_REGION: Region = Region {
    name: c"kijko quotas",
    size: || TABLE.size(guc::quota_slots()),
    locks: PARTITIONS,
    attach,
};

pub type Slot = slot::Slot<SharedWord>;

#[repr(transparent)]
pub struct SharedWord(AtomicU64);

impl Word for SharedWord {
    fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
    fn store(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }
    fn compare_exchange(&self, current: u64, new: u64) -> Result<u64, u64> {
        self.0
            .compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire)
    }
}

#[repr(C, align(64))]
struct Partition {
    /// Signalled after a load, after the last pin of a stale slot, and when a slot becomes free.
    changed: pg_sys::ConditionVariable,
    /// Number of waiters, so that signalling costs nothing when there are none.
    waiting: AtomicU32,
    loads: AtomicU64,
    evictions: AtomicU64,
    full: AtomicU64,
}

#[repr(C, align(64))]
struct Header {
    partitions: [Partition; PARTITIONS],
}

unsafe fn attach(start: *mut u8, locks: *mut pg_sys::LWLockPadded) {
    // SAFETY: nobody else is there yet.
    unsafe {
        TABLE.attach(start, locks, guc::quota_slots());
        for partition in &TABLE.header().partitions {
            pg_sys::ConditionVariableInit(partition.changed());
        }
    }
}

impl Partition {
    fn changed(&self) -> *mut pg_sys::ConditionVariable {
        (&raw const self.changed).cast_mut()
    }
}

/// The identity of a counter, as a 128-bit hash: the table stores no names, and a collision is practically impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterKey {
    words: [u64; 2],
    subject: u64,
}

impl CounterKey {
    /// `ledger` is the ledger's oid: a copied database, or an extension that was dropped and created again, has its own
    /// counters. `start` is the period's, in Postgres microseconds.
    pub fn new(ledger: pg_sys::Oid, subject: &[u8; 16], meter: &str, start: i64) -> Self {
        let words = TABLE.hash(|hasher| {
            write_ledger(hasher, ledger);
            hasher.write(subject);
            hasher.write_i64(start);
            hasher.write(meter.as_bytes());
        });
        Self {
            words,
            subject: Self::subject(ledger, subject),
        }
    }

    pub fn subject(ledger: pg_sys::Oid, subject: &[u8; 16]) -> u64 {
        TABLE.half(0, |hasher| {
            write_ledger(hasher, ledger);
            hasher.write(subject);
        })
    }

    pub fn shares_set(&self, other: &Self) -> bool {
        self.set() == other.set()
    }

    fn set(&self) -> usize {
        TABLE.set_of(self.words[0])
    }
}

fn write_ledger(hasher: &mut impl Hasher, ledger: pg_sys::Oid) {
    // SAFETY: set before any query runs.
    hasher.write_u32(unsafe { pg_sys::MyDatabaseId }.to_u32());
    hasher.write_u32(ledger.to_u32());
}

pub enum Acquired {
    /// Pinned and ready.
    Ready(&'static Slot),
    /// Pinned. The caller must sum the ledger and publish the result, or abandon the slot.
    Load(&'static Slot),
    /// Another transaction is loading the slot, or a stale slot has pins, or no slot of the set is free: wait and retry.
    Wait,
}

/// Finds or claims the slot of a key and pins it. `holder` as for `Slot::pin`. `order` grows with time. The caller must
/// record the pin before anything can fail or be interrupted.
pub fn acquire(key: &CounterKey, holder: bool, order: u64) -> Acquired {
    let set = key.set();
    let (found, pin) = {
        let _shared = TABLE.lock(set, pg_sys::LWLockMode::LW_SHARED);
        let found = find(set, key);
        (found, found.map_or(Pin::Empty, |slot| slot.pin(holder)))
    };
    match (found, pin) {
        (Some(slot), Pin::Pinned) => {
            slot.touch(order);
            return Acquired::Ready(slot);
        }
        (_, Pin::Loading) => return Acquired::Wait,
        _ => {}
    }
    let _exclusive = TABLE.lock(set, pg_sys::LWLockMode::LW_EXCLUSIVE);
    claim(set, key, holder, order)
}

/// Reads a counter without a pin. None when it is not loaded. `order` as for `acquire`.
pub fn peek(key: &CounterKey, order: u64) -> Option<i64> {
    let set = key.set();
    let _shared = TABLE.lock(set, pg_sys::LWLockMode::LW_SHARED);
    find(set, key).and_then(|slot| {
        slot.touch(order);
        slot.peek()
    })
}

fn claim(set: usize, key: &CounterKey, holder: bool, order: u64) -> Acquired {
    let partition = partition(set);
    let found = find(set, key);
    if let Some(slot) = found {
        match slot.pin(holder) {
            Pin::Pinned => return Acquired::Ready(slot),
            Pin::Loading => return Acquired::Wait,
            Pin::Stale | Pin::Empty => {}
        }
    }
    let Some(slot) = found.or_else(|| victim(set)) else {
        partition.full.fetch_add(1, Ordering::Relaxed);
        return Acquired::Wait;
    };
    let evicts = found.is_none() && !slot.is_empty();
    if !slot.claim(key.words, key.subject) {
        return Acquired::Wait; // stale and still pinned
    }
    slot.touch(order);
    partition.loads.fetch_add(1, Ordering::Relaxed);
    partition
        .evictions
        .fetch_add(u64::from(evicts), Ordering::Relaxed);
    Acquired::Load(slot)
}

fn find(set: usize, key: &CounterKey) -> Option<&'static Slot> {
    (0..WAYS)
        .map(|way| slot_at(set, way))
        .find(|slot| slot.is(key.words) && !slot.is_empty())
}

/// An empty slot, or the least recently used one without pins: loading it again costs a query.
fn victim(set: usize) -> Option<&'static Slot> {
    let slots = || (0..WAYS).map(|way| slot_at(set, way));
    slots().find(|slot| slot.is_empty()).or_else(|| {
        slots()
            .filter(|slot| !slot.is_pinned())
            .min_by_key(|slot| slot.touched())
    })
}

fn slot_at(set: usize, way: usize) -> &'static Slot {
    // SAFETY: a slot consists of atomics. Shared memory lives as long as the process.
    unsafe { &*TABLE.slot(set * WAYS + way) }
}

fn partition(set: usize) -> &'static Partition {
    &TABLE.header().partitions[set % PARTITIONS]
}

/// Wakes those who wait for a slot of this set.
pub fn wake(slot: &Slot) {
    // SAFETY: the slot belongs to the table. Waking raises no errors.
    unsafe {
        let index = (slot as *const Slot).offset_from(TABLE.slot(0)) as usize;
        let partition = partition(index / WAYS);
        if partition.waiting.load(Ordering::SeqCst) > 0 {
            pg_sys::ConditionVariableBroadcast(partition.changed());
        }
    }
}

/// Registered as a waiter until it is dropped, also by an interrupt's error.
pub struct Waiter(&'static Partition);

impl Waiter {
    pub fn new(key: &CounterKey) -> Self {
        let partition = partition(key.set());
        partition.waiting.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the condition variable is in shared memory. From here on no wake-up is lost.
        unsafe { pg_sys::ConditionVariablePrepareToSleep(partition.changed()) };
        Self(partition)
    }

    /// Sleeps until a wake-up, for at most 100 ms. Processes interrupts.
    pub fn sleep(&self) {
        // SAFETY: as above.
        unsafe {
            pg_sys::ConditionVariableTimedSleep(self.0.changed(), 100, pg_sys::PG_WAIT_EXTENSION);
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        // SAFETY: raises no errors, and does nothing when an aborting transaction has cancelled the sleep already.
        unsafe { pg_sys::ConditionVariableCancelSleep() };
    }
}

/// Marks every slot of a subject, or every slot, to be loaded again before its next use.
pub fn mark_stale(subject: Option<u64>) {
    for set in 0..TABLE.sets() {
        let _shared = TABLE.lock(set, pg_sys::LWLockMode::LW_SHARED);
        for slot in (0..WAYS).map(|way| slot_at(set, way)) {
            if subject.is_none_or(|subject| slot.is_of(subject)) {
                slot.mark_stale();
            }
        }
    }
}

/// Figures for `kijko.stats()`, since the server started.
pub fn stats() -> [(&'static str, u64); 6] {
    let sum = |f: fn(&Partition) -> &AtomicU64| {
        TABLE
            .header()
            .partitions
            .iter()
            .map(|p| f(p).load(Ordering::Relaxed))
            .sum()
    };
    let slots = || (0..TABLE.sets()).flat_map(|set| (0..WAYS).map(move |way| slot_at(set, way)));
    [
        ("quota.slots", TABLE.slots() as u64),
        (
            "quota.used",
            slots().filter(|slot| !slot.is_empty()).count() as u64,
        ),
        (
            "quota.pinned",
            slots().filter(|slot| slot.is_pinned()).count() as u64,
        ),
        ("quota.loads", sum(|p| &p.loads)),
        ("quota.evictions", sum(|p| &p.evictions)),
        ("quota.full", sum(|p| &p.full)),
    ]
}
