//! The table in shared memory: reserved when the postmaster starts, of a fixed size, guarded by one lock for each of
//! 128 partitions. A full set forgets its least recently used key and counts that. The table is gone after a crash or
//! a restart: every key then starts afresh.

use std::hash::Hasher;
use std::mem::size_of;
use std::ptr;

use pgrx::pg_sys;

use super::gcra::{self, Decision, Policy};
use super::table::{self, Place, Set, WAYS};
use crate::guc;
use crate::pg::lwlock::LwLockGuard;
use crate::shmem::{self, Region};

const PARTITIONS: usize = 128;

pub const SHMEM_REGION: Region = Region {
    name: c"kijko rate limits",
    size,
    locks: PARTITIONS,
    attach,
};

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

fn sets() -> usize {
    guc::rate_limit_slots() / WAYS
}

fn size() -> usize {
    size_of::<Header>() + sets() * size_of::<Set>()
}

unsafe fn attach(start: *mut u8, locks: *mut pg_sys::LWLockPadded) {
    unsafe {
        HEADER = start.cast();
        LOCKS = locks;
        (*HEADER).seeds = [shmem::seed(), shmem::seed()];
        (*HEADER).sets = sets();
    }
}

/// How many limits one call can have.
pub const MOST: usize = 16;

/// A call of one key of this database.
#[derive(Clone, Copy)]
pub struct Call {
    hash: [u64; 2],
    policy: Policy,
    cost: u32,
}

impl Call {
    pub fn new(key: &[u8], policy: Policy, cost: u32) -> Self {
        // SAFETY: the table was attached at start.
        let hash = hash(unsafe { &(*HEADER).seeds }, key);
        Self { hash, policy, cost }
    }

    fn set(&self) -> usize {
        // SAFETY: as above.
        self.hash[0] as usize & (unsafe { (*HEADER).sets } - 1)
    }

    fn partition(&self) -> usize {
        self.set() % PARTITIONS
    }
}

/// Decides on calls that are made together: all of them are paid, or none. A key that comes twice pays twice. Takes the
/// locks of their partitions, in order, for some tens of nanoseconds.
pub fn decide(calls: &[Call]) -> [Decision; MOST] {
    assert!(calls.len() <= MOST, "more limits than a call can have");
    let mut decisions = [Decision::default(); MOST];
    let mut order = [0; MOST];
    for (place, call) in order.iter_mut().zip(calls) {
        *place = call.partition();
    }
    let order = &mut order[..calls.len()];
    order.sort_unstable();
    let is_first = |at: usize| at == 0 || order[at] != order[at - 1];
    // SAFETY: the table was attached at start. Between acquire and release nothing allocates, reports or can panic.
    unsafe {
        let lock = |at: usize| &raw mut (*LOCKS.add(order[at])).lock;
        for at in (0..order.len()).filter(|at| is_first(*at)) {
            pg_sys::LWLockAcquire(lock(at), pg_sys::LWLockMode::LW_EXCLUSIVE);
        }
        // Read under the locks: an earlier reading would let a key's clock run backwards.
        let now = monotonic_nanos();
        decide_locked(calls, &mut decisions, now);
        for at in (0..order.len()).rev().filter(|at| is_first(*at)) {
            pg_sys::LWLockRelease(lock(at));
        }
    }
    decisions
}

unsafe fn decide_locked(calls: &[Call], decisions: &mut [Decision; MOST], now: u64) {
    let set = |call: &Call| unsafe { &mut *HEADER.add(1).cast::<Set>().add(call.set()) };
    let counters = |call: &Call| unsafe { &mut (&mut (*HEADER).partitions)[call.partition()] };
    let mut allowed = true;
    for (at, call) in calls.iter().enumerate() {
        let same = |other: &usize| calls[*other].hash == call.hash;
        let tat = match (0..at).rev().find(same) {
            Some(former) => decisions[former].tat,
            None => table::find(set(call), call.hash).map_or(0, |slot| slot.tat),
        };
        decisions[at] = gcra::decide(tat, now, call.policy, call.cost);
        allowed &= decisions[at].allowed;
    }
    for (call, decision) in calls.iter().zip(decisions) {
        if allowed {
            let (slot, place) = table::claim(set(call), call.hash, now);
            slot.tat = decision.tat;
            slot.used_at = now;
            counters(call).allowed += 1;
            match place {
                Place::Found => {}
                Place::Fresh => counters(call).used += 1,
                Place::Recycled => counters(call).recycled += 1,
                Place::Evicted => counters(call).evicted += 1,
            }
            continue;
        }
        let slot = table::find(set(call), call.hash);
        if decision.allowed {
            *decision = gcra::look(slot.as_ref().map_or(0, |slot| slot.tat), now, call.policy);
        } else {
            counters(call).refused += 1;
        }
        if let Some(slot) = slot {
            slot.used_at = now;
        }
    }
}

/// The table's size and the sums of all counters since the server started.
pub fn counters() -> (u64, Counters) {
    let mut sum = Counters::default();
    // SAFETY: as above; each partition is copied under its lock.
    unsafe {
        for partition in 0..PARTITIONS {
            let held = LwLockGuard::acquire(LOCKS.add(partition), pg_sys::LWLockMode::LW_SHARED);
            let counters = (*HEADER).partitions[partition];
            drop(held);
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
fn hash(seeds: &[u64; 2], key: &[u8]) -> [u64; 2] {
    // SAFETY: set before any query runs.
    let database = unsafe { pg_sys::MyDatabaseId }.to_u32();
    let half = |seed: u64| {
        // SipHash; every process runs the same library, so it need not be stable across versions.
        let mut hasher = std::hash::DefaultHasher::new();
        hasher.write_u64(seed);
        hasher.write_u32(database);
        hasher.write(key);
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
