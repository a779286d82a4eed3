//! A set-associative table in a region: a header, then slots in sets of eight. The hash of a key chooses its set, and the key
//! may take any slot of it. Each lock guards a partition of the sets.

use std::cell::Cell;
use std::hash::{DefaultHasher, Hasher};
use std::marker::PhantomData;
use std::ptr;

use pgrx::pg_sys;

use super::seed;
use crate::pg::lwlock::LwLockGuard;

pub const WAYS: usize = 8;

/// Static: set in the postmaster and inherited by every process that it forks.
pub struct Table<H, S, const LOCKS: usize> {
    header: Cell<*mut H>,
    locks: Cell<*mut pg_sys::LWLockPadded>,
    /// How many, a power of two.
    sets: Cell<usize>,
    seeds: Cell<[u64; 2]>,
    slots: PhantomData<S>,
}

// SAFETY: what changes after the start is in shared memory, and each of its users says how it is guarded.
unsafe impl<H, S, const LOCKS: usize> Sync for Table<H, S, LOCKS> {}

impl<H, S, const LOCKS: usize> Table<H, S, LOCKS> {
    pub const fn new() -> Self {
        assert!(align_of::<H>() >= align_of::<S>());
        Self {
            header: Cell::new(ptr::null_mut()),
            locks: Cell::new(ptr::null_mut()),
            sets: Cell::new(0),
            seeds: Cell::new([0; 2]),
            slots: PhantomData,
        }
    }

    pub const fn size(&self, slots: usize) -> usize {
        size_of::<H>() + slots * size_of::<S>()
    }

    /// # Safety
    /// For `Region::attach`, with as many slots as its size was asked for. All zero is a header without anything, and an
    /// empty slot; of the header only atomics change.
    pub unsafe fn attach(&self, start: *mut u8, locks: *mut pg_sys::LWLockPadded, slots: usize) {
        self.header.set(start.cast());
        self.locks.set(locks);
        self.sets.set(slots / WAYS);
        self.seeds.set([seed(), seed()]);
    }

    pub fn header(&self) -> &H {
        // SAFETY: attached at start.
        unsafe { &*self.header.get() }
    }

    pub fn sets(&self) -> usize {
        self.sets.get()
    }

    pub fn slots(&self) -> usize {
        self.sets() * WAYS
    }

    /// The slots of a set follow each other.
    pub fn slot(&self, at: usize) -> *mut S {
        debug_assert!(at < self.slots());
        // SAFETY: in range by construction of the callers.
        unsafe { self.header.get().add(1).cast::<S>().add(at) }
    }

    pub fn lock(&self, set: usize, mode: pg_sys::LWLockMode::Type) -> LwLockGuard {
        // SAFETY: as many locks as the region asked for.
        unsafe { LwLockGuard::acquire(self.locks.get().add(set % LOCKS), mode) }
    }

    /// 128 bits of a key, so that no two keys collide by chance.
    pub fn hash(&self, write: impl Fn(&mut DefaultHasher)) -> [u64; 2] {
        [self.half(0, &write), self.half(1, &write)]
    }

    /// One half of them. SipHash; every process runs the same library, so it need not be stable across versions.
    pub fn half(&self, half: usize, write: impl Fn(&mut DefaultHasher)) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.seeds.get()[half]);
        write(&mut hasher);
        hasher.finish()
    }

    pub fn set_of(&self, hash: u64) -> usize {
        hash as usize & (self.sets() - 1)
    }
}
