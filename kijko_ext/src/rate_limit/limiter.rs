//! The table of keys in shared memory. It has a fixed size, and one lock guards each of 128 partitions of its sets. A full set
//! forgets its least recently used key and counts that. A crash or a restart empties the table: every key starts afresh.

use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, Ordering};

use pgrx::pg_sys;

use super::gcra::{self, RateDecision, RateLimit};
use super::slot::{Slot, SlotOrigin};
use super::time_budget::TimeBudget;
use crate::guc;
use crate::pg::lwlock::LwLockGuard;
use crate::shmem::Region;
use crate::shmem::set_associative::{Claimed, Table};

const PARTITIONS: usize = 128;

static TABLE: Table<Header, Slot, PARTITIONS> = Table::new();

pub const SHMEM_REGION: Region = Region {
    name: c"kijko rate limits",
    size: || TABLE.size(guc::rate_limit_slots()),
    locks: PARTITIONS,
    attach: |start, locks| unsafe { TABLE.attach(start, locks, guc::rate_limit_slots()) },
};

/// Figures of a partition, changed under its exclusive lock. A cache line each.
#[repr(C, align(64))]
#[derive(Default)]
struct Counters {
    used: AtomicU64,
    allowed: AtomicU64,
    refused: AtomicU64,
    recycled: AtomicU64,
    evicted: AtomicU64,
}

#[repr(C, align(64))]
struct Header {
    partitions: [Counters; PARTITIONS],
}

/// How many limits one call can have.
pub const MAX_CALLS: usize = 16;

/// 128 bits of a key and its database: the table stores no keys, and no two of them collide by chance. Seeds are random, so
/// nobody can choose keys that do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key([u64; 2]);

impl Key {
    /// The key of all parts in a row: how they are divided makes no difference.
    pub fn new(parts: &[&[u8]]) -> Self {
        // SAFETY: set before any query runs.
        let database = unsafe { pg_sys::MyDatabaseId }.to_u32();
        let [a, b] = TABLE.hash(|hasher| {
            hasher.write_u32(database);
            parts.iter().for_each(|part| hasher.write(part));
        });
        Self([a, b | 1]) // never the zero key of an empty slot
    }

    /// Half of it, never zero.
    pub fn word(self) -> u64 {
        self.0[1]
    }

    fn set(self) -> usize {
        TABLE.set_of(self.0[0])
    }

    fn partition(self) -> usize {
        TABLE.partition(self.set())
    }

    /// Needs the lock of the partition.
    fn slot(self) -> Option<&'static Slot> {
        TABLE.find(self.set(), self.0)
    }

    /// The state; 0 without a slot. Needs the lock of the partition.
    fn tat(self) -> u64 {
        self.slot().map_or(0, Slot::tat)
    }

    /// Stores the state, if need be in a slot that is taken from another key. Needs the exclusive lock of the partition.
    fn store(self, now: u64, tat: impl FnOnce(u64) -> u64) {
        let slot = match TABLE.claim(self.set(), self.0, |slot| Some(slot.rank(now))) {
            Some(Claimed::Found(slot)) => slot,
            Some(Claimed::Taken((origin, _), slot)) => {
                slot.give(self.0);
                self.count(origin);
                slot
            }
            None => return, // every slot has a rank
        };
        slot.set(tat(slot.tat()), now);
    }

    /// Needs the exclusive lock of the partition.
    fn count(self, origin: SlotOrigin) {
        let counters = self.counters();
        increment(match origin {
            SlotOrigin::Fresh => &counters.used,
            SlotOrigin::Recycled => &counters.recycled,
            SlotOrigin::Evicted => &counters.evicted,
        });
    }

    fn counters(self) -> &'static Counters {
        &TABLE.header().partitions[self.partition()]
    }
}

/// A call under the limit of one key.
#[derive(Clone, Copy)]
pub struct Call {
    key: Key,
    policy: RateLimit,
    cost: u32,
}

impl Call {
    pub fn new(key: Key, policy: RateLimit, cost: u32) -> Self {
        Self { key, policy, cost }
    }
}

/// Decides on calls that are made together: all of them are paid, or none. A key that comes twice pays twice. Takes the
/// locks of their partitions, in order, for some tens of nanoseconds.
pub fn decide(calls: &[Call]) -> [RateDecision; MAX_CALLS] {
    assert!(calls.len() <= MAX_CALLS, "more limits than a call can have");
    let mut decisions = [RateDecision::default(); MAX_CALLS];
    let mut order = [0; MAX_CALLS];
    for (place, call) in order.iter_mut().zip(calls) {
        *place = call.key.partition();
    }
    let order = &mut order[..calls.len()];
    order.sort_unstable();
    let mut guards = [const { None }; MAX_CALLS];
    for (at, partition) in order.iter().enumerate() {
        if at == 0 || order[at - 1] != *partition {
            guards[at] = Some(lock(*partition, pg_sys::LWLockMode::LW_EXCLUSIVE));
        }
    }
    // Read under the locks: an earlier reading would let a key's clock run backwards.
    let now = monotonic_nanos();
    // All their partitions are locked. Nothing allocates, reports or can panic meanwhile.
    decide_locked(calls, &mut decisions, now);
    drop(guards);
    decisions
}

fn lock(partition: usize, mode: pg_sys::LWLockMode::Type) -> LwLockGuard {
    TABLE.lock(partition, mode)
}

fn decide_locked(calls: &[Call], decisions: &mut [RateDecision; MAX_CALLS], now: u64) {
    let mut allowed = true;
    for (at, call) in calls.iter().enumerate() {
        let same = |other: &usize| calls[*other].key == call.key;
        let tat = match (0..at).rev().find(same) {
            Some(former) => decisions[former].tat,
            None => call.key.tat(),
        };
        decisions[at] = gcra::decide(tat, now, call.policy, call.cost);
        allowed &= decisions[at].allowed;
    }
    for (call, decision) in calls.iter().zip(decisions) {
        if allowed {
            call.key.store(now, |_| decision.tat);
            increment(&call.key.counters().allowed);
            continue;
        }
        if decision.allowed {
            *decision = gcra::look(call.key.tat(), now, call.policy);
        } else {
            increment(&call.key.counters().refused);
        }
        if let Some(slot) = call.key.slot() {
            slot.touch(now);
        }
    }
}

/// Under a lock that keeps other writers out, so no atomic addition is needed.
fn increment(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// Debits the time since `since`, in nanoseconds of this clock. Never refused.
pub fn debit(key: Key, budget: &TimeBudget, since: u64) {
    let _guard = lock(key.partition(), pg_sys::LWLockMode::LW_EXCLUSIVE);
    let now = monotonic_nanos();
    let spent = now.saturating_sub(since);
    key.store(now, |tat| budget.debit(tat, now, spent));
}

/// If the key is in debt: in how many nanoseconds its bucket is full again.
pub fn debt(key: Key, budget: &TimeBudget) -> Option<u64> {
    let guard = lock(key.partition(), pg_sys::LWLockMode::LW_SHARED);
    let tat = key.tat();
    drop(guard);
    let now = monotonic_nanos();
    budget.is_in_debt(tat, now).then(|| tat - now)
}

/// Figures for `kijko.stats()`, since the server started.
pub fn stats() -> [(&'static str, u64); 6] {
    let sum = |counter: fn(&Counters) -> &AtomicU64| {
        let partitions = &TABLE.header().partitions;
        let figures = partitions.iter().map(counter);
        figures.map(|figure| figure.load(Ordering::Relaxed)).sum()
    };
    [
        ("rate_limit.slots", TABLE.slots() as u64),
        ("rate_limit.used", sum(|counters| &counters.used)),
        ("rate_limit.allowed", sum(|counters| &counters.allowed)),
        ("rate_limit.refused", sum(|counters| &counters.refused)),
        ("rate_limit.recycled", sum(|counters| &counters.recycled)),
        ("rate_limit.evicted", sum(|counters| &counters.evicted)),
    ]
}

/// Never steps back, unlike the time of day, and is one clock for all processes of the machine.
pub fn monotonic_nanos() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: plain out parameter; this clock cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
