//! The counters' table in shared memory: reserved when the postmaster starts, of a fixed size, empty after a crash.
//! Sets of eight slots; a key may take any slot of its set. A lock for each of 128 partitions: shared to look a slot
//! up and pin it, exclusive to give a slot to another key. Counting itself takes no lock (slot.rs).

use std::ffi::CStr;
use std::hash::Hasher;
use std::mem::size_of;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use pgrx::prelude::*;

use super::slot::{self, Pin, Word};
use crate::guc;

const NAME: &CStr = c"kijko quotas";
const PARTITIONS: usize = 128;
pub const WAYS: usize = 8;

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
    /// Wakes those who wait for a load, for the last pin of a stale slot, or for a free way.
    changed: pg_sys::ConditionVariable,
    /// How many wait, so that nobody else pays for waking them.
    waiting: AtomicU32,
    loads: AtomicU64,
    evictions: AtomicU64,
    full: AtomicU64,
}

#[repr(C, align(64))]
struct Header {
    /// Random, so that nobody can choose subjects that fall into one set, or onto each other.
    seeds: [u64; 2],
    /// The number of sets, a power of two.
    sets: usize,
    partitions: [Partition; PARTITIONS],
}

/// Where the table is; set in the postmaster, inherited by every process it forks.
static mut HEADER: *mut Header = ptr::null_mut();
static mut LOCKS: *mut pg_sys::LWLockPadded = ptr::null_mut();
static mut PREVIOUS_REQUEST: pg_sys::shmem_request_hook_type = None;
static mut PREVIOUS_STARTUP: pg_sys::shmem_startup_hook_type = None;

pub fn init() {
    // SAFETY: the postmaster has one thread, and the hooks chain to those of other libraries.
    unsafe {
        PREVIOUS_REQUEST = pg_sys::shmem_request_hook;
        pg_sys::shmem_request_hook = Some(request);
        PREVIOUS_STARTUP = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(startup);
    }
}

fn sets() -> usize {
    guc::quota_slots() / WAYS
}

fn size() -> usize {
    size_of::<Header>() + sets() * WAYS * size_of::<Slot>()
}

#[pg_guard]
unsafe extern "C-unwind" fn request() {
    unsafe {
        if let Some(previous) = PREVIOUS_REQUEST {
            previous();
        }
        pg_sys::RequestAddinShmemSpace(size());
        pg_sys::RequestNamedLWLockTranche(NAME.as_ptr(), PARTITIONS as i32);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn startup() {
    unsafe {
        if let Some(previous) = PREVIOUS_STARTUP {
            previous();
        }
        // Also called after a crash, when the postmaster makes shared memory anew: found is false then. No lock is
        // needed: on Unix only the postmaster gets here.
        let mut found = false;
        let header: *mut Header = pg_sys::ShmemInitStruct(NAME.as_ptr(), size(), &mut found).cast();
        if !found {
            ptr::write_bytes(header.cast::<u8>(), 0, size());
            if !pg_sys::pg_strong_random((&raw mut (*header).seeds).cast(), size_of::<[u64; 2]>()) {
                error!("no random seed for the quotas");
            }
            (*header).sets = sets();
            for partition in 0..PARTITIONS {
                pg_sys::ConditionVariableInit(&raw mut (*header).partitions[partition].changed);
            }
        }
        HEADER = header;
        LOCKS = pg_sys::GetNamedLWLockTranche(NAME.as_ptr());
    }
}

/// What identifies a counter, hashed: the table keeps no names, and two of them never meet by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    words: [u64; 2],
    subject: u64,
}

impl Key {
    /// `ledger` is the ledger's oid: a database copied from another, or an extension dropped and created again, has
    /// its own counters. `start` is the period's, in Postgres microseconds.
    pub fn new(ledger: pg_sys::Oid, subject: &[u8; 16], meter: &str, start: i64) -> Self {
        // SAFETY: set before any query runs.
        let seeds = unsafe { &(*HEADER).seeds };
        let half = |seed: u64| {
            let mut hasher = hasher(seed, ledger);
            hasher.write(subject);
            hasher.write_i64(start);
            hasher.write(meter.as_bytes());
            hasher.finish()
        };
        Self {
            words: [half(seeds[0]), half(seeds[1])],
            subject: Self::subject(ledger, subject),
        }
    }

    pub fn subject(ledger: pg_sys::Oid, subject: &[u8; 16]) -> u64 {
        // SAFETY: as above.
        let mut hasher = hasher(unsafe { (*HEADER).seeds[0] }, ledger);
        hasher.write(subject);
        hasher.finish()
    }

    pub fn shares_set(&self, other: &Self) -> bool {
        self.set() == other.set()
    }

    fn set(&self) -> usize {
        // SAFETY: as above.
        self.words[0] as usize & (unsafe { (*HEADER).sets } - 1)
    }
}

/// SipHash; every process runs the same library, so it need not be stable across versions.
fn hasher(seed: u64, ledger: pg_sys::Oid) -> impl Hasher {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write_u64(seed);
    hasher.write_u32(unsafe { pg_sys::MyDatabaseId }.to_u32());
    hasher.write_u32(ledger.to_u32());
    hasher
}

pub enum Acquired {
    /// Pinned and ready.
    Ready(&'static Slot),
    /// Pinned; the caller must sum the ledger and publish, or abandon.
    Load(&'static Slot),
    /// Somebody else is loading, or a stale slot has pins, or no slot of the set is free: wait and ask again.
    Wait,
}

/// Finds or makes the slot of a key and pins it. `holder`: this transaction has a pin on it already. `order` grows with
/// time. The caller must record the pin before anything can fail or be interrupted.
pub fn acquire(key: &Key, holder: bool, order: u64) -> Acquired {
    let set = key.set();
    // SAFETY: the table was made at start. Between acquire and release nothing allocates, reports or can panic.
    unsafe {
        let lock = lock(set);
        pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_SHARED);
        let found = find(set, key);
        let pin = found.map_or(Pin::Empty, |slot| slot.pin(holder));
        pg_sys::LWLockRelease(lock);
        match (found, pin) {
            (Some(slot), Pin::Pinned) => {
                slot.touch(order);
                return Acquired::Ready(slot);
            }
            (_, Pin::Loading) => return Acquired::Wait,
            _ => {}
        }
        pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let acquired = claim(set, key, holder, order);
        pg_sys::LWLockRelease(lock);
        acquired
    }
}

/// What a counter has, if it is loaded. `order` as for `acquire`.
pub fn peek(key: &Key, order: u64) -> Option<i64> {
    let set = key.set();
    // SAFETY: as in `acquire`.
    unsafe {
        let lock = lock(set);
        pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_SHARED);
        let used = find(set, key).and_then(|slot| {
            slot.touch(order);
            slot.peek()
        });
        pg_sys::LWLockRelease(lock);
        used
    }
}

unsafe fn claim(set: usize, key: &Key, holder: bool, order: u64) -> Acquired {
    let partition = partition(set);
    let found = unsafe { find(set, key) };
    if let Some(slot) = found {
        match slot.pin(holder) {
            Pin::Pinned => return Acquired::Ready(slot),
            Pin::Loading => return Acquired::Wait,
            Pin::Stale | Pin::Empty => {}
        }
    }
    let Some(slot) = found.or_else(|| unsafe { victim(set) }) else {
        partition.full.fetch_add(1, Ordering::Relaxed);
        return Acquired::Wait;
    };
    let evicts = found.is_none() && !slot.is_empty();
    if !slot.claim(key.words, key.subject) {
        return Acquired::Wait; // stale, and still pinned
    }
    slot.touch(order);
    partition.loads.fetch_add(1, Ordering::Relaxed);
    partition
        .evictions
        .fetch_add(u64::from(evicts), Ordering::Relaxed);
    Acquired::Load(slot)
}

unsafe fn find(set: usize, key: &Key) -> Option<&'static Slot> {
    (0..WAYS)
        .map(|way| slot_at(set, way))
        .find(|slot| slot.is(key.words) && !slot.is_empty())
}

/// An empty slot, or the unpinned one that was not used for longest: to load it again costs a query.
unsafe fn victim(set: usize) -> Option<&'static Slot> {
    let slots = || (0..WAYS).map(|way| slot_at(set, way));
    slots().find(|slot| slot.is_empty()).or_else(|| {
        slots()
            .filter(|slot| !slot.is_pinned())
            .min_by_key(|slot| slot.touched())
    })
}

fn slot_at(set: usize, way: usize) -> &'static Slot {
    // SAFETY: set and way are in range by construction; shared memory lives as long as the process.
    unsafe { &*HEADER.add(1).cast::<Slot>().add(set * WAYS + way) }
}

fn lock(set: usize) -> *mut pg_sys::LWLock {
    // SAFETY: as many locks as partitions were requested.
    unsafe { &raw mut (*LOCKS.add(set % PARTITIONS)).lock }
}

fn partition(set: usize) -> &'static Partition {
    // SAFETY: as above.
    unsafe { &(&(*HEADER).partitions)[set % PARTITIONS] }
}

/// Wakes whoever waits for a change of this slot's set.
pub fn wake(slot: &Slot) {
    // SAFETY: the slot is one of the table's; waking raises no errors.
    unsafe {
        let index = (slot as *const Slot).offset_from(HEADER.add(1).cast::<Slot>()) as usize;
        let partition = partition(index / WAYS);
        if partition.waiting.load(Ordering::SeqCst) > 0 {
            pg_sys::ConditionVariableBroadcast((&raw const partition.changed).cast_mut());
        }
    }
}

/// Counts itself among those who wait; also when an interrupt ends the wait by an error.
pub struct Waiter(&'static Partition);

impl Waiter {
    pub fn new(key: &Key) -> Self {
        let partition = partition(key.set());
        partition.waiting.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the condition variable is in shared memory. From now on a wake-up is not lost.
        unsafe {
            pg_sys::ConditionVariablePrepareToSleep((&raw const partition.changed).cast_mut())
        };
        Self(partition)
    }

    /// Sleeps until something changed, or for 100 ms. Answers to interrupts.
    pub fn sleep(&self) {
        // SAFETY: as above.
        unsafe {
            pg_sys::ConditionVariableTimedSleep(
                (&raw const self.0.changed).cast_mut(),
                100,
                pg_sys::PG_WAIT_EXTENSION,
            );
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        // SAFETY: raises no errors; does nothing when an aborting transaction has done it already.
        unsafe { pg_sys::ConditionVariableCancelSleep() };
    }
}

/// Has every slot of a subject, or of everybody in this database, loaded again before its next use.
pub fn mark_stale(subject: Option<u64>) {
    // SAFETY: as in acquire.
    unsafe {
        for set in 0..(*HEADER).sets {
            let lock = lock(set);
            pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_SHARED);
            for slot in (0..WAYS).map(|way| slot_at(set, way)) {
                if subject.is_none_or(|subject| slot.is_of(subject)) {
                    slot.mark_stale();
                }
            }
            pg_sys::LWLockRelease(lock);
        }
    }
}

/// Figures for `kijko.stats()`, since the server started.
pub fn stats() -> [(&'static str, u64); 6] {
    let header = unsafe { &*HEADER };
    let sum = |f: fn(&Partition) -> &AtomicU64| {
        header
            .partitions
            .iter()
            .map(|p| f(p).load(Ordering::Relaxed))
            .sum()
    };
    let slots = || (0..header.sets).flat_map(|set| (0..WAYS).map(move |way| slot_at(set, way)));
    [
        ("quota.slots", (header.sets * WAYS) as u64),
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
