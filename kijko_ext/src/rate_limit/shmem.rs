//! The table in shared memory: reserved when the postmaster starts, of a fixed size, guarded by one lock for each of
//! 128 partitions. A full set forgets its least recently used key and counts that. The table is gone after a crash or
//! a restart: every key then starts afresh.

use std::ffi::CStr;
use std::hash::Hasher;
use std::mem::size_of;
use std::ptr;

use pgrx::prelude::*;

use super::gcra::{self, Decision, Policy};
use super::table::{self, Place, Set, WAYS};
use crate::guc;

const NAME: &CStr = c"kijko rate limits";
const PARTITIONS: usize = 128;

/// Counters, under the partition's lock. A cache line each.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub used: u64,
    pub allowed: u64,
    pub refused: u64,
    pub recycled: u64,
    pub evicted: u64,
}

#[repr(C, align(64))]
struct Header {
    /// Random, so that nobody can choose keys that fall into one set, or onto each other.
    seeds: [u64; 2],
    /// The number of sets, a power of two.
    sets: usize,
    partitions: [Counters; PARTITIONS],
}

/// Where the table is; set in the postmaster, inherited by every process it forks.
static mut HEADER: *mut Header = ptr::null_mut();
static mut LOCKS: *mut pg_sys::LWLockPadded = ptr::null_mut();

static mut PREVIOUS_REQUEST: pg_sys::shmem_request_hook_type = None;
static mut PREVIOUS_STARTUP: pg_sys::shmem_startup_hook_type = None;

pub fn init() {
    // SAFETY: the postmaster has one thread, and the hooks chain to those of other libraries.
    unsafe {
        PREVIOUS_REQUEST = pg_sys::shmem_request_hook;
        pg_sys::shmem_request_hook = Some(request);
        PREVIOUS_STARTUP = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(startup);
    }
}

fn sets() -> usize {
    guc::rate_limit_slots() / WAYS
}

fn size() -> usize {
    size_of::<Header>() + sets() * size_of::<Set>()
}

#[pg_guard]
unsafe extern "C-unwind" fn request() {
    unsafe {
        if let Some(previous) = PREVIOUS_REQUEST {
            previous();
        }
        pg_sys::RequestAddinShmemSpace(size());
        pg_sys::RequestNamedLWLockTranche(NAME.as_ptr(), PARTITIONS as i32);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn startup() {
    unsafe {
        if let Some(previous) = PREVIOUS_STARTUP {
            previous();
        }
        // Also called after a crash, when the postmaster makes shared memory anew: found is false then. No lock is
        // needed: on Unix only the postmaster gets here.
        let mut found = false;
        let header: *mut Header = pg_sys::ShmemInitStruct(NAME.as_ptr(), size(), &mut found).cast();
        if !found {
            ptr::write_bytes(header.cast::<u8>(), 0, size());
            let seeds = &raw mut (*header).seeds;
            if !pg_sys::pg_strong_random(seeds.cast(), size_of::<[u64; 2]>()) {
                error!("no random seed for the rate limiter");
            }
            (*header).sets = sets();
        }
        HEADER = header;
        LOCKS = pg_sys::GetNamedLWLockTranche(NAME.as_ptr());
    }
}

/// Decides one call of `key` in this database. Takes the partition's lock for some tens of nanoseconds.
pub fn decide(key: &str, policy: Policy, cost: u32) -> Decision {
    // SAFETY: the table was made at start. Between acquire and release nothing allocates, reports or can panic.
    unsafe {
        let header = HEADER;
        let hash = hash(&(*header).seeds, key);
        let set_number = hash[0] as usize & ((*header).sets - 1);
        let partition = set_number % PARTITIONS;
        let set = header.add(1).cast::<Set>().add(set_number);
        let counters = &raw mut (*header).partitions[partition];
        let lock = &raw mut (*LOCKS.add(partition)).lock;

        pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        // Read under the lock: an earlier reading would let a key's clock run backwards.
        let now = monotonic_nanos();
        let (slot, place) = table::claim(&mut *set, hash, now);
        let decision = gcra::decide(slot.tat, now, policy, cost);
        slot.tat = decision.tat;
        slot.used_at = now;
        match place {
            Place::Found => {}
            Place::Fresh => (*counters).used += 1,
            Place::Recycled => (*counters).recycled += 1,
            Place::Evicted => (*counters).evicted += 1,
        }
        if decision.allowed {
            (*counters).allowed += 1;
        } else {
            (*counters).refused += 1;
        }
        pg_sys::LWLockRelease(lock);
        decision
    }
}

/// The table's size and the sums of all counters since the server started.
pub fn counters() -> (u64, Counters) {
    let mut sum = Counters::default();
    // SAFETY: as above; each partition is copied under its lock.
    unsafe {
        for partition in 0..PARTITIONS {
            let lock = &raw mut (*LOCKS.add(partition)).lock;
            pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_SHARED);
            let counters = (*HEADER).partitions[partition];
            pg_sys::LWLockRelease(lock);
            sum.used += counters.used;
            sum.allowed += counters.allowed;
            sum.refused += counters.refused;
            sum.recycled += counters.recycled;
            sum.evicted += counters.evicted;
        }
        (((*HEADER).sets * WAYS) as u64, sum)
    }
}

/// 128 bits of the key and the database: the table keeps no keys, and two of them never meet by chance.
fn hash(seeds: &[u64; 2], key: &str) -> [u64; 2] {
    // SAFETY: set before any query runs.
    let database = unsafe { pg_sys::MyDatabaseId }.to_u32();
    let half = |seed: u64| {
        // SipHash; every process runs the same library, so it need not be stable across versions.
        let mut hasher = std::hash::DefaultHasher::new();
        hasher.write_u64(seed);
        hasher.write_u32(database);
        hasher.write(key.as_bytes());
        hasher.finish()
    };
    [half(seeds[0]), half(seeds[1]) | 1] // never the zero key of an empty slot
}

/// Never steps back, unlike the time of day, and is one clock for all processes of the machine.
fn monotonic_nanos() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: plain out parameter; this clock cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
