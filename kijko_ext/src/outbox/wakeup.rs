//! Wakes the worker of a database when requests have been committed, and counts for `kijko.stats()`. In shared memory, by database:
//! the worker's latch, which the commit sets, and which requests are new. The worker reads these by their ids. When there is no
//! room for them, or a transaction has stored many, it looks for lanes.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use pgrx::pg_sys;

use super::outcome::{FAULTS, Id};
use crate::clock;
use crate::pg::sql_function::{Answer, Arguments, sql_function};
use crate::pg::xact::{PerTransaction, XactCallbacks};
use crate::pg::{datum, random};
use crate::shmem::Region;
use crate::uuid7;

/// Databases that have a worker at once.
const MAX_DATABASES: usize = 64;
/// Issuers that are remembered until the worker looks. Of more than that, the tokens that come later ask again.
const MAX_ISSUERS: usize = 16;
/// New requests that the worker has not taken yet.
const MAX_STORED: usize = 64;
/// Of a transaction with more, the worker looks for the lanes of all.
const MAX_STORED_AT_ONCE: usize = 16;

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
    stored: [Place; MAX_STORED],
    /// Whether the worker has to look: something has changed that is not in `stored`.
    look: AtomicBool,
}

/// Where a backend leaves the id of a request. It is the backend's from FREE to WRITTEN, and the worker's from then on.
#[repr(C)]
struct Place {
    state: AtomicU32,
    id: [AtomicU64; 2],
}

const FREE: u32 = 0;
const WRITING: u32 = 1;
const WRITTEN: u32 = 2;

impl Place {
    /// False when it is taken.
    fn put(&self, id: u128) -> bool {
        let free = self
            .state
            .compare_exchange(FREE, WRITING, Ordering::Acquire, Ordering::Relaxed);
        if free.is_err() {
            return false;
        }
        self.id[0].store((id >> 64) as u64, Ordering::Relaxed);
        self.id[1].store(id as u64, Ordering::Relaxed);
        self.state.store(WRITTEN, Ordering::Release);
        true
    }

    fn take(&self) -> Option<Id> {
        if self.state.load(Ordering::Acquire) != WRITTEN {
            return None;
        }
        let word = |at: usize| u128::from(self.id[at].load(Ordering::Relaxed));
        let id = word(0) << 64 | word(1);
        self.state.store(FREE, Ordering::Release);
        Some(id.to_be_bytes())
    }
}

#[repr(C)]
pub struct Counts {
    pub succeeded: AtomicU64,
    pub failed: AtomicU64,
    pub dead: AtomicU64,
    pub errors: AtomicU64,
    pub looks: AtomicU64,
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
        ("outbox.looks", load(&counts.looks)),
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

/// For the worker: the requests that have been committed since the last time, and whether it has to look for others.
pub fn take_stored() -> (Vec<Id>, bool) {
    let Some(worker) = of_this_database() else {
        return (Vec::new(), false);
    };
    let look = worker.look.swap(false, Ordering::AcqRel);
    (worker.stored.iter().filter_map(Place::take).collect(), look)
}

/// What the running transaction has to tell.
struct Stored {
    ids: [u128; MAX_STORED_AT_ONCE],
    /// May be more than there is room for.
    count: usize,
    /// Something has changed that has no id here.
    look: bool,
}

impl Stored {
    const NOTHING: Self = Self {
        ids: [0; MAX_STORED_AT_ONCE],
        count: 0,
        look: false,
    };

    fn add(&mut self, id: Id) {
        if let Some(place) = self.ids.get_mut(self.count) {
            *place = u128::from_be_bytes(id);
        }
        self.count += 1;
    }

    fn tell(&self) {
        let Some(worker) = of_this_database() else {
            return;
        };
        let put = |id: &u128| worker.stored.iter().any(|place| place.put(*id));
        let all = self.ids.get(..self.count);
        if self.look || !all.is_some_and(|ids| ids.iter().all(put)) {
            worker.look.store(true, Ordering::Release);
        }
        wake();
    }
}

static STORED: PerTransaction<Stored> = PerTransaction::new(Stored::NOTHING);

impl XactCallbacks for Stored {
    fn commit(&mut self) {
        if self.look || self.count > 0 {
            std::mem::replace(self, Self::NOTHING).tell();
        }
    }

    fn abort(&mut self, first: pg_sys::SubTransactionId) {
        // The worker does not find what a subtransaction has rolled back.
        if first == 0 {
            *self = Self::NOTHING;
        }
    }

    fn merge_into_parent(&mut self, _: pg_sys::SubTransactionId, _: pg_sys::SubTransactionId) {}

    fn prepare_error(&self) -> Option<&'static str> {
        None // the worker looks once a second
    }
}

sql_function!(kijko_http_wake, pg_finfo_kijko_http_wake, http_wake);

fn http_wake(arguments: Arguments) -> Answer {
    STORED.with_registered(|stored| stored.look = true);
    Ok(arguments.null())
}

sql_function!(kijko_http_stored, pg_finfo_kijko_http_stored, http_stored);

fn http_stored(arguments: Arguments) -> Answer {
    if let Some(id) = arguments.uuid(0) {
        STORED.with_registered(|stored| stored.add(id));
    }
    Ok(arguments.null())
}

sql_function!(kijko_http_new_id, pg_finfo_kijko_http_new_id, http_new_id);

/// Requests that are stored together are neighbours in every index, also of the primary key.
fn http_new_id(_: Arguments) -> Answer {
    let id = uuid7::new(clock::real_micros(), random::words()[0]);
    Ok(datum::uuid_datum(&id))
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_place_holds_one_id_until_it_is_taken() {
        let place = Place {
            state: AtomicU32::new(FREE),
            id: [AtomicU64::new(0), AtomicU64::new(0)],
        };
        assert_eq!(place.take(), None);
        let id: Id = std::array::from_fn(|at| at as u8 + 1);
        assert!(place.put(u128::from_be_bytes(id)));
        assert!(!place.put(7));
        assert_eq!(place.take(), Some(id));
        assert_eq!(place.take(), None);
        assert!(place.put(7));
    }

    #[test]
    fn many_at_once_are_only_counted() {
        let mut stored = Stored::NOTHING;
        for n in 0..100 {
            stored.add([n; 16]);
        }
        assert_eq!(stored.count, 100);
        assert!(stored.ids.get(..stored.count).is_none());
    }
}
