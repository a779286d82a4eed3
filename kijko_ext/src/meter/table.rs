//! Counts that are not in the ledger yet, in shared memory: sets of eight slots, a lock for each of 64 partitions. Held
//! shared to count and exclusive to give a slot to another subject, which is possible while nothing is counted in it.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pgrx::prelude::*;

use crate::guc;
use crate::shmem::{self, Area, Held};

const WAYS: usize = 8;
const LOCKS: usize = 64;

pub const AREA: Area = Area {
    name: c"kijko meter",
    size,
    locks: LOCKS,
    made,
};

#[repr(C, align(64))]
struct Header {
    seed: u64,
    sets: usize,
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
pub struct Count {
    pub subject: [u8; 16],
    pub amount: u64,
    slot: usize,
}

static mut HEADER: *mut Header = ptr::null_mut();
static mut FIRST_LOCK: *mut pg_sys::LWLockPadded = ptr::null_mut();

fn sets() -> usize {
    guc::meter_slots() / WAYS
}

fn size() -> usize {
    size_of::<Header>() + sets() * WAYS * size_of::<Slot>()
}

unsafe fn made(start: *mut u8, locks: *mut pg_sys::LWLockPadded) {
    unsafe {
        HEADER = start.cast();
        FIRST_LOCK = locks;
        (*HEADER).seed = shmem::seed();
        (*HEADER).sets = sets();
    }
}

fn header() -> &'static Header {
    // SAFETY: made at start; only atomics change afterwards.
    unsafe { &*HEADER }
}

fn slot(at: usize) -> &'static Slot {
    // SAFETY: in range by construction.
    unsafe { &*HEADER.add(1).cast::<Slot>().add(at) }
}

fn lock(set: usize, mode: pg_sys::LWLockMode::Type) -> Held {
    // SAFETY: as many locks as were requested.
    unsafe { Held::new(FIRST_LOCK.add(set % LOCKS), mode) }
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

/// Anybody may make as many uuids as they like, but not choose where they fall.
fn set_of(words: [u64; 2]) -> usize {
    use std::hash::Hasher;
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write_u64(header().seed);
    hasher.write_u64(words[0]);
    hasher.write_u64(words[1]);
    hasher.finish() as usize & (header().sets - 1)
}

/// Adds to a subject's count and answers it. None when all slots it may take are in use.
pub fn add(subject: &[u8; 16], amount: u64) -> Option<u64> {
    let words = words(subject);
    let set = set_of(words);
    let slots = || (set * WAYS..(set + 1) * WAYS).map(slot);
    let add = |slot: &Slot| slot.pending.fetch_add(amount, Ordering::AcqRel) + amount;
    let pending = {
        let _shared = lock(set, pg_sys::LWLockMode::LW_SHARED);
        slots().find(|slot| slot.is(words)).map(add)
    };
    let pending = pending.or_else(|| {
        let _exclusive = lock(set, pg_sys::LWLockMode::LW_EXCLUSIVE);
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

/// Everything that is counted and not in the ledger. For the worker, which alone takes from the table.
pub fn counts() -> Vec<Count> {
    if !header().dirty.swap(false, Ordering::AcqRel) {
        return Vec::new();
    }
    (0..header().sets * WAYS)
        .filter(|&at| slot(at).pending() > 0)
        .map(|at| {
            // A slot with a count keeps its subject, so no lock is needed.
            let [a, b] = &slot(at).subject;
            let mut subject = [0; 16];
            subject[..8].copy_from_slice(&a.load(Ordering::Relaxed).to_ne_bytes());
            subject[8..].copy_from_slice(&b.load(Ordering::Relaxed).to_ne_bytes());
            Count {
                subject,
                amount: slot(at).pending(),
                slot: at,
            }
        })
        .collect()
}

/// The ledger's counter has it now.
pub fn taken(count: &Count) {
    slot(count.slot)
        .pending
        .fetch_sub(count.amount, Ordering::AcqRel);
    header().flushed.fetch_add(count.amount, Ordering::Relaxed);
}

/// What was taken did not reach the ledger: it counts again. False when there is no room any more.
pub fn give_back(count: &Count) -> bool {
    header().flushed.fetch_sub(count.amount, Ordering::Relaxed);
    header().counted.fetch_sub(count.amount, Ordering::Relaxed);
    add(&count.subject, count.amount).is_some()
}

/// Something is left for the next round.
pub fn look_again() {
    header().dirty.store(true, Ordering::Release);
}

pub fn failed() {
    header().failures.fetch_add(1, Ordering::Relaxed);
}

/// Figures for `kijko.stats()`, since the server started.
pub fn stats() -> [(&'static str, u64); 6] {
    let header = header();
    let used = (0..header.sets * WAYS).filter(|&at| slot(at).pending() > 0);
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    [
        ("meter.slots", (header.sets * WAYS) as u64),
        ("meter.used", used.count() as u64),
        ("meter.counted", load(&header.counted)),
        ("meter.flushed", load(&header.flushed)),
        ("meter.full", load(&header.full)),
        ("meter.failures", load(&header.failures)),
    ]
}
