//! Which requests are in flight: a place in shared memory for each backend, which holds the subject of its request. A
//! backend writes only its own place. The place is cleared when its transaction ends, and when the backend exits. When a
//! backend is killed, Postgres resets all shared memory.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use pgrx::prelude::*;

use crate::pg::lwlock::LwLockGuard;
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

/// A cache line, so that backends do not slow each other down. Zero is no subject.
#[repr(C, align(64))]
struct Place {
    subject: AtomicU64,
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
    // SAFETY: reads a variable; 1 to MaxBackends in every backend.
    let id = usize::try_from(unsafe { pg_sys::MyBackendId }).ok()?;
    all().get(id.checked_sub(1)?)
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

pub fn occupy(subject: Key) {
    store(subject.word());
}

pub fn clear() {
    store(0);
}

fn store(word: u64) {
    if let Some(place) = own() {
        place.subject.store(word, Ordering::Release);
    }
}

/// Requests of a subject that are in flight.
pub fn count(subject: Key) -> usize {
    let is_its = |place: &&Place| place.subject.load(Ordering::Acquire) == subject.word();
    all().iter().filter(is_its).count()
}

/// Requests in flight that occupy a place.
pub fn total() -> usize {
    let is_occupied = |place: &&Place| place.subject.load(Ordering::Relaxed) != 0;
    all().iter().filter(is_occupied).count()
}

unsafe extern "C-unwind" fn at_exit(_status: i32, _argument: pg_sys::Datum) {
    clear();
}
