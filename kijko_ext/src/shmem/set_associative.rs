//! The one kind of table that shared memory has: set-associative, in a region of its own. A header comes first, then slots in
//! sets of eight. The hash of a key chooses its set, and the key may take any slot of it. Each lock guards a partition of the
//! sets: it is held shared to find a slot, exclusive to give one to another key.

use std::cell::Cell;
use std::hash::{DefaultHasher, Hasher};
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use pgrx::pg_sys;

use crate::pg::lwlock::LwLockGuard;
use crate::pg::random;

pub const WAYS: usize = 8;

/// 128 bits that identify what a slot is for. Zero is an empty slot.
pub type Key = [u64; 2];

/// A slot of a table. All of it is atomic, so that it can be shared.
pub trait KeyedSlot: 'static {
    type Key: Copy;
    fn holds(&self, key: Self::Key) -> bool;
}

/// A uuid in a database: what is kept for a worker, which serves one database.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DatabaseKey {
    pub database: u64,
    pub uuid: Key,
}

impl DatabaseKey {
    /// In this process's database.
    pub fn new(uuid: &[u8; 16]) -> Self {
        Self {
            database: own_database(),
            uuid: key_of_uuid(uuid),
        }
    }
}

pub fn own_database() -> u64 {
    // SAFETY: set before any query runs.
    u64::from(unsafe { pg_sys::MyDatabaseId }.to_u32())
}

/// A `DatabaseKey` of a slot. Changes under the exclusive lock only.
#[repr(C)]
pub struct AtomicDatabaseKey {
    database: AtomicU64,
    uuid: AtomicKey,
}

impl AtomicDatabaseKey {
    pub fn is(&self, key: DatabaseKey) -> bool {
        self.load() == key
    }

    pub fn is_own(&self) -> bool {
        self.database.load(Ordering::Relaxed) == own_database()
    }

    pub fn load(&self) -> DatabaseKey {
        DatabaseKey {
            database: self.database.load(Ordering::Relaxed),
            uuid: self.uuid.load(),
        }
    }

    pub fn store(&self, key: DatabaseKey) {
        self.database.store(key.database, Ordering::Relaxed);
        self.uuid.store(key.uuid);
    }
}

/// The key of a slot. Changes under the exclusive lock only.
#[derive(Default)]
#[repr(transparent)]
pub struct AtomicKey([AtomicU64; 2]);

impl AtomicKey {
    pub fn is(&self, key: Key) -> bool {
        self.load() == key
    }

    pub fn load(&self) -> Key {
        [0, 1].map(|half: usize| self.0[half].load(Ordering::Relaxed))
    }

    pub fn store(&self, key: Key) {
        for (word, half) in self.0.iter().zip(key) {
            word.store(half, Ordering::Relaxed);
        }
    }
}

/// A uuid as a key. `Table::set_of_key` hashes it, so that nobody can choose uuids that fall into one set.
pub fn key_of_uuid(uuid: &[u8; 16]) -> Key {
    let value = u128::from_ne_bytes(*uuid);
    [value as u64, (value >> 64) as u64]
}

pub fn uuid_of_key([a, b]: Key) -> [u8; 16] {
    (u128::from(a) | u128::from(b) << 64).to_ne_bytes()
}

/// What the table keeps before the header of its user.
#[repr(C, align(64))]
struct Prefix {
    /// Zero until the first process that needs them has drawn them.
    seeds: [AtomicU64; 2],
}

/// Static: set in the postmaster and inherited by every process that it forks.
pub struct Table<H, S, const LOCKS: usize> {
    prefix: Cell<*mut Prefix>,
    locks: Cell<*mut pg_sys::LWLockPadded>,
    /// How many, a power of two.
    sets: Cell<usize>,
    /// This process's copy of the seeds.
    seeds: Cell<[u64; 2]>,
    parts: PhantomData<(H, S)>,
}

// SAFETY: what changes after the start is in shared memory, and each of its users says how it is guarded. The copy of the seeds
// changes in a process's only thread.
unsafe impl<H, S, const LOCKS: usize> Sync for Table<H, S, LOCKS> {}

impl<H, S, const LOCKS: usize> Table<H, S, LOCKS> {
    pub const fn new() -> Self {
        assert!(align_of::<H>() >= align_of::<S>() && align_of::<Prefix>() >= align_of::<H>());
        Self {
            prefix: Cell::new(ptr::null_mut()),
            locks: Cell::new(ptr::null_mut()),
            sets: Cell::new(0),
            seeds: Cell::new([0; 2]),
            parts: PhantomData,
        }
    }

    pub const fn size(&self, slots: usize) -> usize {
        size_of::<Prefix>() + size_of::<H>() + slots * size_of::<S>()
    }

    /// # Safety
    /// For `Region::attach`, with as many slots as its size was asked for. All zero is a header without anything, and an
    /// empty slot; of the header only atomics change.
    pub unsafe fn attach(&self, start: *mut u8, locks: *mut pg_sys::LWLockPadded, slots: usize) {
        self.prefix.set(start.cast());
        self.locks.set(locks);
        self.sets.set(slots / WAYS);
    }

    pub fn header(&self) -> &H {
        // SAFETY: attached at start.
        unsafe { &*self.header_pointer() }
    }

    fn header_pointer(&self) -> *mut H {
        // SAFETY: it follows the prefix, within the region.
        unsafe { self.prefix.get().add(1).cast() }
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
        unsafe { self.header_pointer().add(1).cast::<S>().add(at) }
    }

    /// How many locks a table of its size needs: each guards at least eight sets.
    pub fn partitions(&self) -> usize {
        LOCKS.min(self.sets() / 8)
    }

    pub fn partition(&self, set: usize) -> usize {
        set & (self.partitions() - 1)
    }

    pub fn lock(&self, set: usize, mode: pg_sys::LWLockMode::Type) -> LwLockGuard {
        // SAFETY: at least as many locks as partitions.
        unsafe { LwLockGuard::acquire(self.locks.get().add(self.partition(set)), mode) }
    }

    /// 128 bits of a key, so that no two keys collide by chance.
    pub fn hash(&self, write: impl Fn(&mut DefaultHasher)) -> Key {
        [self.half(0, &write), self.half(1, &write)]
    }

    /// One half of them. SipHash; every process runs the same library, so it need not be stable across versions.
    pub fn half(&self, half: usize, write: impl Fn(&mut DefaultHasher)) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.seeds()[half]);
        write(&mut hasher);
        hasher.finish()
    }

    /// Random, so that nobody can choose keys that fall into one set, or onto each other. The first process that needs them
    /// draws them, and not the postmaster, whose children would inherit the state of its generator.
    fn seeds(&self) -> [u64; 2] {
        let known = self.seeds.get();
        if known[0] != 0 {
            return known;
        }
        // SAFETY: attached at start; atomic.
        let shared = unsafe { &(*self.prefix.get()).seeds };
        let drawn = random::words().map(|word| word | 1); // never zero
        let agreed = [0, 1].map(|half: usize| {
            let own =
                shared[half].compare_exchange(0, drawn[half], Ordering::AcqRel, Ordering::Acquire);
            own.map_or_else(|others| others, |_| drawn[half])
        });
        self.seeds.set(agreed);
        agreed
    }

    pub fn set_of(&self, hash: u64) -> usize {
        hash as usize & (self.sets() - 1)
    }

    pub fn set_of_key(&self, key: DatabaseKey) -> usize {
        self.set_of(self.half(0, |hasher| {
            hasher.write_u64(key.database);
            hasher.write_u64(key.uuid[0]);
            hasher.write_u64(key.uuid[1]);
        }))
    }
}

impl<H, S: KeyedSlot, const LOCKS: usize> Table<H, S, LOCKS> {
    pub fn get(&self, at: usize) -> &'static S {
        // SAFETY: a slot is atomic. Shared memory lives as long as the process.
        unsafe { &*self.slot(at) }
    }

    /// The slots of a set.
    pub fn ways(&'static self, set: usize) -> impl Iterator<Item = &'static S> + Clone {
        (set * WAYS..(set + 1) * WAYS).map(|at| self.get(at))
    }

    pub fn all(&'static self) -> impl Iterator<Item = &'static S> {
        (0..self.slots()).map(|at| self.get(at))
    }

    /// The slot of a key. Needs a lock of the set.
    pub fn find(&'static self, set: usize, key: S::Key) -> Option<&'static S> {
        self.ways(set).find(|slot| slot.holds(key))
    }

    /// The slot of a key, or the one to take from another key (`victim`). Needs the exclusive lock.
    pub fn claim<R: Ord>(
        &'static self,
        set: usize,
        key: S::Key,
        rank: impl Fn(&S) -> Option<R>,
    ) -> Option<Claimed<R, S>> {
        self.find(set, key)
            .map(Claimed::Found)
            .or_else(|| victim(self.ways(set), rank).map(|(rank, slot)| Claimed::Taken(rank, slot)))
    }

    /// Runs `change` on the key's slot, under the shared lock. If the key has none, runs it under the exclusive lock on the slot
    /// that is taken from another key; `take` makes the slot the key's. None when there is none to take.
    pub fn update<T, R: Ord>(
        &'static self,
        set: usize,
        key: S::Key,
        change: impl Fn(&S) -> T,
        rank: impl Fn(&S) -> Option<R>,
        take: impl FnOnce(&S, R),
    ) -> Option<T> {
        {
            let _shared = self.lock(set, pg_sys::LWLockMode::LW_SHARED);
            if let Some(slot) = self.find(set, key) {
                return Some(change(slot));
            }
        }
        let _exclusive = self.lock(set, pg_sys::LWLockMode::LW_EXCLUSIVE);
        // It may have got one between the two locks.
        let slot = match self.claim(set, key, rank)? {
            Claimed::Found(slot) => slot,
            Claimed::Taken(rank, slot) => {
                take(slot, rank);
                slot
            }
        };
        Some(change(slot))
    }
}

/// How a key got its slot.
pub enum Claimed<R, S: 'static> {
    Found(&'static S),
    /// From another key. It still has that key.
    Taken(R, &'static S),
}

/// The slot to take from its key: the one of the lowest rank, of equals the first. A slot without a rank keeps its key.
pub fn victim<'a, R: Ord, S: 'a>(
    slots: impl Iterator<Item = &'a S>,
    rank: impl Fn(&S) -> Option<R>,
) -> Option<(R, &'a S)> {
    let ranked = slots.filter_map(|slot| Some((rank(slot)?, slot)));
    ranked.reduce(|least, other| if other.0 < least.0 { other } else { least })
}

#[cfg(test)]
mod unit {
    use super::victim;

    #[test]
    fn the_lowest_rank_is_taken_and_of_equals_the_first() {
        let slots = [(0, 7), (1, 3), (2, 3), (3, 9)];
        let taken = |least: i32| {
            let rank = |slot: &(i32, i32)| (slot.1 >= least).then_some(slot.1);
            victim(slots.iter(), rank).map(|(_, slot)| slot.0)
        };
        assert_eq!(taken(0), Some(1));
        assert_eq!(taken(4), Some(0));
        assert_eq!(taken(8), Some(3));
        assert_eq!(taken(10), None);
    }
}
