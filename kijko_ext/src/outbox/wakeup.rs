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
/// Issuers that are remembered until the worker looks. Of more than that, the tokens that come later ask again.
const MAX_ISSUERS: usize = 16;

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
    /// Issuers of which a token has named an unknown key, by the first eight bytes of their id. 0 is a free place.
    issuers: [AtomicU64; MAX_ISSUERS],
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

/// Tells the worker that an issuer has to be asked for its keys, in no transaction: the request is refused, and may be READ ONLY.
pub fn want_issuer(id: &[u8; 16]) {
    let Some(worker) = of_this_database() else {
        return;
    };
    let tag = id
        .first_chunk()
        .map_or(0, |first| u64::from_be_bytes(*first));
    let places = &worker.issuers;
    if places
        .iter()
        .any(|place| place.load(Ordering::Acquire) == tag)
    {
        return;
    }
    let take = |place: &AtomicU64| {
        let free = place.compare_exchange(0, tag, Ordering::AcqRel, Ordering::Acquire);
        free.is_ok()
    };
    if places.iter().any(take) {
        wake();
    }
}

/// For the worker: whether any issuer is wanted.
pub fn wants_issuers() -> bool {
    of_this_database().is_some_and(|worker| {
        let mut places = worker.issuers.iter();
        places.any(|place| place.load(Ordering::Acquire) != 0)
    })
}

/// Those that are wanted, which are forgotten.
pub fn take_wanted_issuers() -> Vec<i64> {
    let Some(worker) = of_this_database() else {
        return Vec::new();
    };
    let places = worker.issuers.iter();
    places
        .map(|place| place.swap(0, Ordering::AcqRel) as i64)
        .filter(|tag| *tag != 0)
        .collect()
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
