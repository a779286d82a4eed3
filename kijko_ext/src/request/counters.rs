//! Figures of the request path in shared memory, for `kijko.stats()`.

use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use pgrx::pg_sys;

use super::in_flight;
use crate::clock;
use crate::pg::process::ProcessCell;
use crate::shmem::Region;

pub const SHMEM_REGION: Region = Region {
    name: c"kijko requests",
    size: || size_of::<Stats>(),
    locks: 1, // there is no tranche of none
    attach,
};

#[repr(C)]
pub struct Stats {
    /// Requests that a policy in shadow mode would have refused.
    pub shadow_refused: AtomicU64,
    /// Requests that passed, or were refused, because the limiter failed.
    pub passed: AtomicU64,
    pub refused: AtomicU64,
    /// Requests of a subject in debt with its connection time.
    pub connection_time_refused: AtomicU64,
    /// Requests of a tenant that holds as many connections as it may.
    pub connection_pool_refused: AtomicU64,
    /// Tasks of kijko.maintain_usage() that failed.
    pub maintenance_failures: AtomicU64,
    /// Errors of clients that were not logged.
    pub unlogged_errors: AtomicU64,
    /// Unix seconds when the log was last written to, and an error of a client.
    logged_at: AtomicU64,
    error_logged_at: AtomicU64,
}

static STATS: ProcessCell<*mut Stats> = ProcessCell::new(ptr::null_mut());

unsafe fn attach(start: *mut u8, _locks: *mut pg_sys::LWLockPadded) {
    STATS.set(start.cast());
}

pub fn add(counter: fn(&Stats) -> &AtomicU64) {
    // SAFETY: attached at start; all of it is atomic.
    counter(unsafe { &*STATS.get() }).fetch_add(1, Ordering::Relaxed);
}

/// True once a second for all backends together, so that a flood of requests does not flood the log.
pub fn may_log() -> bool {
    once_a_second(|stats| &stats.logged_at)
}

/// The same for errors of clients.
pub fn may_log_error() -> bool {
    once_a_second(|stats| &stats.error_logged_at)
}

fn once_a_second(at: fn(&Stats) -> &AtomicU64) -> bool {
    // SAFETY: as above.
    let at = at(unsafe { &*STATS.get() });
    let now = clock::unix_seconds(clock::real_micros());
    let last = at.load(Ordering::Relaxed);
    last != now
        && at
            .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
}

/// Figures for `kijko.stats()`, since the server started.
pub fn figures() -> [(&'static str, u64); 8] {
    // SAFETY: as above.
    let stats = unsafe { &*STATS.get() };
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    [
        ("request.shadow_refused", load(&stats.shadow_refused)),
        ("request.passed_by_failure", load(&stats.passed)),
        ("request.refused_by_failure", load(&stats.refused)),
        ("request.in_flight", in_flight::total() as u64),
        (
            "request.connection_time_refused",
            load(&stats.connection_time_refused),
        ),
        (
            "request.connection_pool_refused",
            load(&stats.connection_pool_refused),
        ),
        ("request.unlogged_errors", load(&stats.unlogged_errors)),
        ("maintenance.failures", load(&stats.maintenance_failures)),
    ]
}
