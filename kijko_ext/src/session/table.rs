//! Revoked sessions in shared memory: sets of eight slots, a lock for each of 64 partitions, shared to look up and
//! exclusive to change. Which database's table they come from, and whether all of it is here, is the scope's state
//! (scope.rs).

use std::hash::Hasher;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use pgrx::pg_sys;

use super::scope::{SCOPES, Scope};
use crate::guc;
use crate::shmem::{self, Area, Held};

const WAYS: usize = 8;
const LOCKS: usize = 64;

pub const AREA: Area = Area {
    name: c"kijko sessions",
    size,
    locks: LOCKS,
    made,
};

#[repr(C, align(64))]
struct Header {
    seeds: [u64; 2],
    sets: usize,
    loads: AtomicU64,
    full: AtomicU64,
    scopes: [Scope; SCOPES],
}

/// 32 bytes, two to a cache line. A zero key marks an empty slot.
#[repr(C)]
#[derive(Clone, Copy)]
struct Slot {
    key: [u64; 2],
    /// Postgres microseconds: from then on nobody asks for it any more, and another may take the slot.
    expires_at: i64,
    scope: u64,
}

type Set = [Slot; WAYS];

static mut HEADER: *mut Header = ptr::null_mut();
static mut FIRST_LOCK: *mut pg_sys::LWLockPadded = ptr::null_mut();

fn sets() -> usize {
    guc::session_slots() / WAYS
}

fn size() -> usize {
    size_of::<Header>() + sets() * size_of::<Set>()
}

unsafe fn made(start: *mut u8, locks: *mut pg_sys::LWLockPadded) {
    unsafe {
        HEADER = start.cast();
        FIRST_LOCK = locks;
        (*HEADER).seeds = [shmem::seed(), shmem::seed()];
        (*HEADER).sets = sets();
    }
}

pub fn scopes() -> &'static [Scope; SCOPES] {
    // SAFETY: made at start; a scope is atomic.
    unsafe { &(*HEADER).scopes }
}

fn set_count() -> usize {
    // SAFETY: as above.
    unsafe { (*HEADER).sets }
}

fn count(counter: fn(&Header) -> &AtomicU64) {
    // SAFETY: as above.
    counter(unsafe { &*HEADER }).fetch_add(1, Ordering::Relaxed);
}

/// Runs `body` on a set, under its lock.
fn locked<T>(set: usize, mode: pg_sys::LWLockMode::Type, body: impl FnOnce(&mut Set) -> T) -> T {
    // SAFETY: in range by construction; a shared lock's body only reads.
    unsafe {
        let _held = Held::new(FIRST_LOCK.add(set % LOCKS), mode);
        body(&mut *HEADER.add(1).cast::<Set>().add(set))
    }
}

/// 128 bits of the session and its scope: no two of them meet by chance.
fn key(scope: usize, session: &[u8; 16]) -> [u64; 2] {
    // SAFETY: as above.
    let seeds = unsafe { (*HEADER).seeds };
    let [a, b] = seeds.map(|seed| {
        let mut hasher = std::hash::DefaultHasher::new();
        hasher.write_u64(seed);
        hasher.write_usize(scope);
        hasher.write(session);
        hasher.finish()
    });
    [a, b | 1] // never the zero key of an empty slot
}

pub fn contains(scope: usize, session: &[u8; 16]) -> bool {
    let key = key(scope, session);
    let set = key[0] as usize & (set_count() - 1);
    locked(set, pg_sys::LWLockMode::LW_SHARED, |slots| {
        slots.iter().any(|slot| slot.key == key)
    })
}

/// False when there is no room: all slots it may take hold sessions whose tokens are valid still.
pub fn insert(scope: usize, session: &[u8; 16], expires_at: i64, now: i64) -> bool {
    let key = key(scope, session);
    let set = key[0] as usize & (set_count() - 1);
    let inserted = locked(set, pg_sys::LWLockMode::LW_EXCLUSIVE, |slots| {
        let same = slots.iter().position(|slot| slot.key == key);
        let free = || {
            let is_free = |slot: &Slot| slot.key == [0; 2] || slot.expires_at < now;
            slots.iter().position(is_free)
        };
        let Some(at) = same.or_else(free) else {
            return false;
        };
        let kept = if same.is_some() {
            slots[at].expires_at
        } else {
            i64::MIN
        };
        slots[at] = Slot {
            key,
            expires_at: expires_at.max(kept),
            scope: scope as u64,
        };
        true
    });
    if !inserted {
        count(|header| &header.full);
    }
    inserted
}

/// Empties the table of a scope's sessions, to load them again.
pub fn clear(scope: usize) {
    count(|header| &header.loads);
    for set in 0..set_count() {
        locked(set, pg_sys::LWLockMode::LW_EXCLUSIVE, |slots| {
            for slot in slots.iter_mut().filter(|slot| slot.scope == scope as u64) {
                slot.key = [0; 2];
            }
        });
    }
}

/// Figures for `kijko.stats()`, since the server started.
pub fn stats() -> [(&'static str, u64); 4] {
    let used = |set| {
        locked(set, pg_sys::LWLockMode::LW_SHARED, |slots| {
            slots.iter().filter(|slot| slot.key != [0; 2]).count() as u64
        })
    };
    // SAFETY: as above.
    let header = unsafe { &*HEADER };
    [
        ("session.slots", (header.sets * WAYS) as u64),
        ("session.used", (0..header.sets).map(used).sum()),
        ("session.loads", header.loads.load(Ordering::Relaxed)),
        ("session.full", header.full.load(Ordering::Relaxed)),
    ]
}
