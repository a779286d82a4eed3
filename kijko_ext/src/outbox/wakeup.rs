//! Wakes the worker of a database when requests have been committed, and counts for `kijko.stats()`. In shared memory: the
//! worker's latch by database, which the commit sets. A latch that is set once too often costs one look.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use pgrx::pg_sys;

use super::outcome::FAULTS;
use crate::pg::sql_function::{Answer, Arguments, sql_function};
use crate::pg::xact::{PerTransaction, XactCallbacks};
use crate::shmem::Region;

/// Databases that have a worker at once.
const MAX_DATABASES: usize = 64;

pub const SHMEM_REGION: Region = Region {
    name: c"kijko outbox",
    size: || size_of::<Shared>(),
    locks: 1, // there is no tranche of none
    attach,
};

#[repr(C)]
struct Shared {
    workers: [Worker; MAX_DATABASES],
    counts: Counts,
}

#[repr(C)]
struct Worker {
    database: AtomicU32,
    /// In shared memory, so valid also after its process has ended.
    latch: AtomicPtr<pg_sys::Latch>,
    in_flight: AtomicU64,
}

#[repr(C)]
pub struct Counts {
    pub succeeded: AtomicU64,
    pub failed: AtomicU64,
    pub dead: AtomicU64,
    pub errors: AtomicU64,
    /// Attempts that failed, in the order of [`FAULTS`].
    faults: [AtomicU64; FAULTS.len()],
}

impl Counts {
    /// Counts why an attempt failed.
    pub fn add_fault(&self, fault: &str) {
        let known = FAULTS.iter().zip(&self.faults);
        for (_, counter) in known.filter(|((name, _), _)| *name == fault) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

static mut SHARED: *mut Shared = ptr::null_mut();

unsafe fn attach(start: *mut u8, _locks: *mut pg_sys::LWLockPadded) {
    unsafe { SHARED = start.cast() };
}

fn shared() -> &'static Shared {
    // SAFETY: attached at start; all of it is atomic.
    unsafe { &*SHARED }
}

pub fn counts() -> &'static Counts {
    &shared().counts
}

/// Figures for `kijko.stats()`, since the server started.
pub fn stats() -> impl Iterator<Item = (&'static str, u64)> {
    let counts = counts();
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let workers = shared().workers.iter();
    let in_flight = workers.map(|worker| load(&worker.in_flight));
    let faults = FAULTS.iter().zip(&counts.faults);
    [
        ("outbox.in_flight", in_flight.sum()),
        ("outbox.succeeded", load(&counts.succeeded)),
        ("outbox.failed", load(&counts.failed)),
        ("outbox.dead", load(&counts.dead)),
        ("outbox.errors", load(&counts.errors)),
    ]
    .into_iter()
    .chain(faults.map(move |((_, metric), counter)| (*metric, load(counter))))
}

/// Makes this process the one that commits of its database wake. A predecessor's entry is taken over. Without room for it, the
/// worker looks once a second.
pub fn register_worker() {
    // SAFETY: set once when the process started.
    let (database, latch) = unsafe { (pg_sys::MyDatabaseId.to_u32(), pg_sys::MyLatch) };
    let take = |worker: &&Worker| {
        let free =
            worker
                .database
                .compare_exchange(0, database, Ordering::AcqRel, Ordering::Acquire);
        free.is_ok() || free == Err(database)
    };
    if let Some(worker) = shared().workers.iter().find(take) {
        worker.latch.store(latch, Ordering::Release);
    }
}

/// How many requests this worker is sending.
pub fn set_in_flight(count: usize) {
    if let Some(worker) = of_this_database() {
        worker.in_flight.store(count as u64, Ordering::Relaxed);
    }
}

fn of_this_database() -> Option<&'static Worker> {
    // SAFETY: set once when the process started.
    let database = unsafe { pg_sys::MyDatabaseId.to_u32() };
    let mut workers = shared().workers.iter();
    workers.find(|worker| worker.database.load(Ordering::Acquire) == database)
}

fn wake() {
    let Some(worker) = of_this_database() else {
        return;
    };
    let latch = worker.latch.load(Ordering::Acquire);
    if !latch.is_null() {
        // SAFETY: a latch in shared memory may be set by any process.
        unsafe { pg_sys::SetLatch(latch) };
    }
}

/// Whether the running transaction has stored a request.
struct Stored(bool);

static STORED: PerTransaction<Stored> = PerTransaction::new(Stored(false));

impl XactCallbacks for Stored {
    fn commit(&mut self) {
        if std::mem::take(&mut self.0) {
            wake();
        }
    }

    fn abort(&mut self, first: pg_sys::SubTransactionId) {
        // A subtransaction that was rolled back leaves one look too many.
        if first == 0 {
            self.0 = false;
        }
    }

    fn merge_into_parent(&mut self, _: pg_sys::SubTransactionId, _: pg_sys::SubTransactionId) {}

    fn prepare_error(&self) -> Option<&'static str> {
        None // the worker looks once a second
    }
}

sql_function!(kijko_http_wake, pg_finfo_kijko_http_wake, http_wake);

fn http_wake(arguments: Arguments) -> Answer {
    STORED.with_registered(|stored| stored.0 = true);
    Ok(arguments.null())
}
