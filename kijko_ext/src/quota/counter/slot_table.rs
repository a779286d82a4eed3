//! The table of counters in shared memory. It is reserved when the postmaster starts, has a fixed size and is empty after
//! a crash. A counter may use any slot of two sets, which lie in the part of the table that is open to its subject. The lock of
//! their partition is held shared to find a slot and pin it, exclusive to give a slot to another key. Counting takes no lock
//! (slot.rs).

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use pgrx::pg_sys;

use super::slot::{self, Pin, Word};
use crate::guc;
use crate::shmem::Region;
use crate::shmem::set_associative::{self, Key, KeyedSlot, Table, WAYS};

const PARTITIONS: usize = 128;

static TABLE: Table<Header, Slot, PARTITIONS> = Table::new();

pub const SHMEM_REGION: Region = Region {
    name: c"kijko quotas",
    size: || TABLE.size(guc::quota_slots()),
    locks: PARTITIONS,
    attach,
};

pub type Slot = slot::Slot<SharedWord>;

/// In how many slots the counter of a key may be: those of two sets.
pub const CHOICES: usize = 2 * WAYS;

/// A subject's counters are in one sixteenth of the sets. So nobody fills the table with the meters of one subject.
const SHARE: usize = 16;

impl KeyedSlot for Slot {
    type Key = Key;

    fn holds(&self, key: Key) -> bool {
        self.is(key) && !self.is_empty()
    }
}

/// How many sets are open to a subject: at least two of each partition, so that a key has a choice.
fn reach() -> usize {
    (TABLE.sets() / SHARE).max(2 * TABLE.partitions())
}

/// How many counters of one subject a transaction may use, and how many in all if it is a client's request. They fill a quarter
/// of the subject's slots, so each finds one.
pub fn max_pins() -> usize {
    reach() * WAYS / 4
}

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
pub(super) struct Partition {
    /// Signalled after a load, after the last pin of a stale slot, and when a slot becomes free.
    changed: pg_sys::ConditionVariable,
    /// Number of waiters (waiter.rs), so that signalling costs nothing when there are none.
    pub(super) waiting: AtomicU32,
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
    pub(super) fn changed(&self) -> *mut pg_sys::ConditionVariable {
        (&raw const self.changed).cast_mut()
    }
}

/// The bits of a subject's hash that its ledger has.
const OF_LEDGER: u64 = 0xffff;

/// Counters that are to be loaded again.
#[derive(Clone, Copy)]
pub struct Stale {
    subject: u64,
    /// The bits that count.
    of: u64,
}

impl Stale {
    /// Those of a subject, or of all of them: no other database's.
    pub fn new(ledger: pg_sys::Oid, subject: Option<&[u8; 16]>) -> Self {
        match subject {
            Some(subject) => Self {
                subject: CounterKey::subject(ledger, subject),
                of: u64::MAX,
            },
            None => Self {
                subject: CounterKey::ledger(ledger),
                of: OF_LEDGER,
            },
        }
    }
}

/// The identity of a counter, as a 128-bit hash: the table stores no names, and a collision is practically impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterKey {
    words: Key,
    subject: u64,
}

impl Hash for CounterKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.words[0]);
    }
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

    /// The lowest bits are those of the ledger, so that all counters of one can be found.
    pub fn subject(ledger: pg_sys::Oid, subject: &[u8; 16]) -> u64 {
        let hash = TABLE.half(0, |hasher| {
            write_ledger(hasher, ledger);
            hasher.write(subject);
        });
        hash & !OF_LEDGER | Self::ledger(ledger)
    }

    fn ledger(ledger: pg_sys::Oid) -> u64 {
        TABLE.half(0, |hasher| write_ledger(hasher, ledger)) & OF_LEDGER
    }

    /// The hash of the subject alone.
    pub fn of_subject(&self) -> u64 {
        self.subject
    }

    /// The two sets that the counter may be in. They are of one partition, so one lock guards both. All sizes are powers of two.
    fn sets(&self) -> [usize; 2] {
        let (reach, partitions) = (reach(), TABLE.partitions());
        let [a, b] = self.words.map(|word| word as usize);
        let first = a & (reach - 1);
        let step = (b | 1).wrapping_mul(partitions); // an odd multiple leads to another set
        let second = first.wrapping_add(step) & (reach - 1);
        let block = block_of(self.subject);
        [block + first, block + second]
    }

    /// Whether a slot is in one of its sets.
    pub fn may_be_in(&self, slot: &Slot) -> bool {
        self.sets().contains(&(index_of(slot) / WAYS))
    }
}

/// The first of the sets that are open to a subject.
fn block_of(subject: u64) -> usize {
    (subject >> 32) as usize & (TABLE.sets() - 1) & !(reach() - 1)
}

fn index_of(slot: &Slot) -> usize {
    // SAFETY: the slot belongs to the table.
    unsafe { (slot as *const Slot).offset_from(TABLE.slot(0)) as usize }
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
    let sets = key.sets();
    let (found, pin) = {
        let _shared = TABLE.lock(sets[0], pg_sys::LWLockMode::LW_SHARED);
        let found = find(sets, key);
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
    let _exclusive = TABLE.lock(sets[0], pg_sys::LWLockMode::LW_EXCLUSIVE);
    claim(sets, key, holder, order)
}

/// Reads a counter without a pin. None when it is not loaded. `order` as for `acquire`.
pub fn peek(key: &CounterKey, order: u64) -> Option<i64> {
    let sets = key.sets();
    let _shared = TABLE.lock(sets[0], pg_sys::LWLockMode::LW_SHARED);
    find(sets, key).and_then(|slot| {
        slot.touch(order);
        slot.peek()
    })
}

fn claim(sets: [usize; 2], key: &CounterKey, holder: bool, order: u64) -> Acquired {
    let partition = partition(sets[0]);
    let found = find(sets, key);
    if let Some(slot) = found {
        match slot.pin(holder) {
            Pin::Pinned => return Acquired::Ready(slot),
            Pin::Loading => return Acquired::Wait,
            Pin::Stale | Pin::Empty => {}
        }
    }
    let Some(slot) = found.or_else(|| victim(sets)) else {
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

fn find([first, second]: [usize; 2], key: &CounterKey) -> Option<&'static Slot> {
    TABLE
        .find(first, key.words)
        .or_else(|| TABLE.find(second, key.words))
}

/// An empty slot, of the emptier set, so that sets fill evenly. Otherwise the least recently used slot without pins: loading it
/// again costs a query.
fn victim([first, second]: [usize; 2]) -> Option<&'static Slot> {
    let empty = |set: usize| TABLE.ways(set).filter(|slot| slot.is_empty()).count();
    let [emptier, other] = match empty(second) > empty(first) {
        true => [second, first],
        false => [first, second],
    };
    let rank = |slot: &Slot| match slot.is_empty() {
        true => Some(0),
        false => (!slot.is_pinned()).then(|| slot.touched().max(1)),
    };
    set_associative::victim(TABLE.ways(emptier).chain(TABLE.ways(other)), rank)
        .map(|(_, slot)| slot)
}

/// The partition of the sets that a counter may be in.
pub(super) fn partition_of(key: &CounterKey) -> &'static Partition {
    partition(key.sets()[0])
}

fn partition(set: usize) -> &'static Partition {
    &TABLE.header().partitions[TABLE.partition(set)]
}

/// Wakes those who wait for a slot of this set.
pub fn wake(slot: &Slot) {
    let partition = partition(index_of(slot) / WAYS);
    if partition.waiting.load(Ordering::SeqCst) > 0 {
        // SAFETY: the condition variable is in shared memory. Waking raises no errors.
        unsafe { pg_sys::ConditionVariableBroadcast(partition.changed()) };
    }
}

/// Marks slots to be loaded again before their next use.
pub fn mark_stale(stale: Stale) {
    let sets = match stale.of {
        OF_LEDGER => 0..TABLE.sets(),
        _ => block_of(stale.subject)..block_of(stale.subject) + reach(),
    };
    for set in sets {
        let _shared = TABLE.lock(set, pg_sys::LWLockMode::LW_SHARED);
        for slot in TABLE.ways(set) {
            if slot.is_of(stale.subject, stale.of) {
                slot.mark_stale();
            }
        }
    }
}

/// Figures for `kijko.stats()`, since the server started.
pub fn stats() -> [(&'static str, u64); 7] {
    let sum = |f: fn(&Partition) -> &AtomicU64| {
        TABLE
            .header()
            .partitions
            .iter()
            .map(|p| f(p).load(Ordering::Relaxed))
            .sum()
    };
    let waiting = |partition: &Partition| u64::from(partition.waiting.load(Ordering::Relaxed));
    [
        ("quota.slots", TABLE.slots() as u64),
        (
            "quota.waiting",
            TABLE.header().partitions.iter().map(waiting).sum(),
        ),
        (
            "quota.used",
            TABLE.all().filter(|slot| !slot.is_empty()).count() as u64,
        ),
        (
            "quota.pinned",
            TABLE.all().filter(|slot| slot.is_pinned()).count() as u64,
        ),
        ("quota.loads", sum(|p| &p.loads)),
        ("quota.evictions", sum(|p| &p.evictions)),
        ("quota.full", sum(|p| &p.full)),
    ]
}
