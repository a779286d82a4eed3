//! How many workers there are, for `kijko.stats()`.

use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::shmem::Region;

#[repr(C)]
struct Figures {
    listed: AtomicU64,
    running: AtomicU64,
}

/// Set in the postmaster and inherited by every process that it forks.
static FIGURES: AtomicPtr<Figures> = AtomicPtr::new(std::ptr::null_mut());

pub const SHMEM_REGION: Region = Region {
    name: c"kijko workers",
    size: || size_of::<Figures>(),
    locks: 1, // there is no tranche of none
    attach: |start, _| FIGURES.store(start.cast(), Ordering::Relaxed),
};

fn figures() -> &'static Figures {
    // SAFETY: attached at start; all of it is atomic.
    unsafe { &*FIGURES.load(Ordering::Relaxed) }
}

/// By the launcher: databases that are listed and exist, and those that have a worker.
pub fn set_workers(listed: usize, running: usize) {
    figures().listed.store(listed as u64, Ordering::Relaxed);
    figures().running.store(running as u64, Ordering::Relaxed);
}

pub fn stats() -> [(&'static str, u64); 2] {
    let load = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
    [
        ("worker.databases", load(&figures().listed)),
        ("worker.running", load(&figures().running)),
    ]
}
