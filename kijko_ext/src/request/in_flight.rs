//! Which requests are in flight: a place in shared memory for each backend, which says whose request it runs. A backend
//! writes only its own place. The place is cleared when its transaction ends, and when the backend exits. When a backend is
//! killed, Postgres resets all shared memory.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use pgrx::prelude::*;

use super::connection_pool::{ConnectionPool, Held};
use crate::pg::lwlock::LwLockGuard;
use crate::pg::major;
use crate::rate_limit::limiter::Key;
use crate::shmem::Region;

pub const SHMEM_REGION: Region = Region {
    name: c"kijko requests in flight",
    size: || size_of::<Place>() * places(),
    locks: 1,
    attach: |start, locks| {
        PLACES.store(start.cast(), Ordering::Relaxed);
        LOCK.store(locks, Ordering::Relaxed);
    },
};

/// A cache line, so that backends do not slow each other down. Zero is nobody.
#[repr(C, align(64))]
struct Place {
    caller: AtomicU64,
    tenant: AtomicU64,
    is_free: AtomicBool,
}

/// Set in the postmaster and inherited by every process that it forks.
static PLACES: AtomicPtr<Place> = AtomicPtr::new(ptr::null_mut());
static LOCK: AtomicPtr<pg_sys::LWLockPadded> = AtomicPtr::new(ptr::null_mut());

fn places() -> usize {
    // SAFETY: final before shared memory is requested.
    usize::try_from(unsafe { pg_sys::MaxBackends }).unwrap_or(0)
}

fn all() -> &'static [Place] {
    // SAFETY: attached at start; of places only atomics change.
    unsafe { std::slice::from_raw_parts(PLACES.load(Ordering::Relaxed), places()) }
}

/// This backend's place.
fn own() -> Option<&'static Place> {
    all().get(major::backend_number()?)
}

/// Keeps the others out, so that counting and occupying are one step.
pub fn lock() -> LwLockGuard {
    // SAFETY: the region's only lock.
    unsafe {
        LwLockGuard::acquire(
            LOCK.load(Ordering::Relaxed),
            pg_sys::LWLockMode::LW_EXCLUSIVE,
        )
    }
}

/// Has the place cleared when this backend exits, too. May fail, so it comes before the place is occupied.
pub fn clear_at_exit() {
    thread_local! {
        static REGISTERED: Cell<bool> = const { Cell::new(false) };
    }
    if !REGISTERED.replace(true) {
        // SAFETY: the callback needs nothing of the backend but its number, which is given back after it has run.
        unsafe { pg_sys::on_shmem_exit(Some(at_exit), pg_sys::Datum::null()) };
    }
}

pub fn occupy(caller: Key) {
    if let Some(place) = own() {
        place.caller.store(caller.word(), Ordering::Release);
    }
}

/// Holds a connection for the tenant if the pool has room; otherwise returns what is held. Stores before it counts, so of two
/// at once, also without the lock, at least one sees the other. Safe in a signal handler.
pub fn hold(pool: ConnectionPool, tenant: Key, is_free: bool) -> Result<(), Held> {
    let Some(place) = own() else {
        return Ok(());
    };
    place.is_free.store(is_free, Ordering::Relaxed);
    place.tenant.store(tenant.word(), Ordering::SeqCst);
    let held = held_by_others(place, tenant);
    match pool.has_room(held, is_free) {
        true => Ok(()),
        false => {
            place.tenant.store(0, Ordering::SeqCst);
            Err(held)
        }
    }
}

fn held_by_others(own: &Place, tenant: Key) -> Held {
    let mut held = Held::default();
    for place in all() {
        let by = place.tenant.load(Ordering::SeqCst);
        if by != 0 && !ptr::eq(place, own) {
            held.total += 1;
            held.free_tiers += usize::from(place.is_free.load(Ordering::Relaxed));
            held.tenant += usize::from(by == tenant.word());
        }
    }
    held
}

pub fn clear() {
    if let Some(place) = own() {
        place.caller.store(0, Ordering::Release);
        place.tenant.store(0, Ordering::Release);
    }
}

/// Requests of a caller that are in flight.
pub fn count_caller(caller: Key) -> usize {
    let is_its = |place: &&Place| place.caller.load(Ordering::Acquire) == caller.word();
    all().iter().filter(is_its).count()
}

/// Requests in flight that occupy a place.
pub fn total() -> usize {
    let is_occupied = |place: &&Place| place.caller.load(Ordering::Relaxed) != 0;
    all().iter().filter(is_occupied).count()
}

unsafe extern "C-unwind" fn at_exit(_status: i32, _argument: pg_sys::Datum) {
    clear();
}
