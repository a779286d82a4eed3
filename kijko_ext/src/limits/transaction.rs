//! What this transaction holds of the counters. It is let go of when the transaction has left the list of running ones
//! (pg/xact.rs), so whoever loads a counter after the last pin is gone sees all of its rows, or none.

use std::ptr;

use pgrx::prelude::*;

use super::slot::{Loaded, Reserved};
use super::table::{self, Acquired, Key, Slot, WAYS, Waiter};
use crate::clock;
use crate::pg::xact::{PerTransaction, XactCallbacks};

/// For how long a call waits for another transaction's load, or for a free slot, before it fails.
const PATIENCE: i64 = 10 * clock::SECOND;

/// After how long a call supposes that whoever it waits for waits for it.
const CIRCLE: i64 = clock::SECOND;

/// One counter under one subtransaction. Each entry has a pin of its own.
struct Entry {
    key: Key,
    slot: &'static Slot,
    subtransaction: pg_sys::SubTransactionId,
    /// Between claim and publish.
    loading: bool,
    /// Thresholds whose rows this subtransaction writes (slot.rs).
    crossing: u8,
    /// Units added to the counter: taken back on abort.
    reserved: i64,
    /// Units that the counter loses at commit, and not before: a settled hold, a gauge that falls. Later uses of the
    /// same transaction take from it first, so it is negative where a subtransaction took from its parent's.
    credit: i64,
}

struct State {
    entries: Vec<Entry>,
    /// Subjects to load again after commit; None for everybody.
    forgotten: Vec<(Option<u64>, pg_sys::SubTransactionId)>,
}

static STATE: PerTransaction<State> = PerTransaction::new(State {
    entries: Vec::new(),
    forgotten: Vec::new(),
});

/// A counter that this transaction has pinned.
#[derive(Clone, Copy)]
pub struct Counter {
    entry: usize,
}

impl Counter {
    /// Pins the counter of `key`, summing the ledger by `load` when it is not in the table. Waits for others who are
    /// loading it. `Err` when there is no room: every slot of its set is in use by running transactions.
    pub fn pin(key: &Key, load: impl FnOnce() -> Loaded) -> Result<Self, Full> {
        let subtransaction = unsafe { pg_sys::GetCurrentSubTransactionId() };
        let entries = &mut STATE.registered().entries;
        if let Some(entry) = find(entries, key, subtransaction) {
            return Ok(Self { entry });
        }
        let holder = entries.iter().any(|entry| entry.key == *key);
        let order = order();
        entries.reserve(1); // from the acquisition on nothing may fail before the entry is there
        let (slot, loading) = match table::acquire(key, holder, order) {
            Acquired::Ready(slot) => (slot, false),
            Acquired::Load(slot) => (slot, true),
            Acquired::Wait => Self::wait(key, holder, order)?,
        };
        let entries = &mut STATE.get().entries;
        entries.push(Entry {
            key: *key,
            slot,
            subtransaction,
            loading,
            crossing: 0,
            reserved: 0,
            credit: 0,
        });
        let entry = entries.len() - 1;
        if loading {
            let loaded = load(); // may fail: then the abort gives the slot back
            slot.publish(loaded);
            STATE.get().entries[entry].loading = false;
            table::wake(slot);
        }
        Ok(Self { entry })
    }

    fn wait(key: &Key, holder: bool, order: u64) -> Result<(&'static Slot, bool), Full> {
        let began = clock::real_micros();
        let waited = || clock::real_micros() - began;
        if distinct_slots(key) >= WAYS {
            return Err(Full); // it would wait for itself
        }
        let pins = !STATE.get().entries.is_empty();
        let waiter = Waiter::new(key);
        loop {
            let mut acquired = table::acquire(key, holder, order);
            // Two transactions that hold a stale counter each and want the other's would wait in a circle.
            if matches!(acquired, Acquired::Wait) && pins && waited() > CIRCLE {
                acquired = table::acquire(key, true, order);
            }
            match acquired {
                Acquired::Ready(slot) => return Ok((slot, false)),
                Acquired::Load(slot) => return Ok((slot, true)),
                Acquired::Wait if waited() > PATIENCE => return Err(Full),
                Acquired::Wait => waiter.sleep(),
            }
        }
    }

    fn entry(self) -> &'static mut Entry {
        &mut STATE.get().entries[self.entry]
    }

    /// Takes `amount` if the use of everybody, as this transaction sees it, then stays within `limit`.
    pub fn take(self, amount: i64, limit: i64) -> Reserved {
        let own = self.credit();
        let from_own = own.min(amount);
        let entry = self.entry();
        // Only after corrections far below zero can a transaction ask for more than it could give back.
        let Some(reserved) = entry.reserved.checked_add(amount - from_own) else {
            return Reserved::No(entry.slot.used().saturating_sub(own));
        };
        // What is left of the own credit is still in the counter, but no longer used.
        match entry
            .slot
            .reserve(amount - from_own, limit.saturating_add(own - from_own))
        {
            Reserved::Yes(used) => {
                entry.reserved = reserved;
                entry.credit -= from_own;
                Reserved::Yes(used - (own - from_own))
            }
            Reserved::No(used) => Reserved::No(used.saturating_sub(own)),
        }
    }

    /// What this transaction has reserved of the counter, to return to by `restore`.
    pub fn mark(self) -> Mark {
        Mark(self.entry().reserved)
    }

    /// Takes back `amount` that was taken since the mark, in the same subtransaction. What of it came from the own credit
    /// is credit again, and so stays what was credited meanwhile: holds that had expired have ended all the same.
    pub fn restore(self, mark: Mark, amount: i64) {
        let entry = self.entry();
        let reserved = entry.reserved - mark.0;
        entry.slot.give_back(reserved);
        entry.reserved = mark.0;
        entry.credit += amount - reserved;
    }

    /// Frees `amount` at commit, and for this transaction's own uses at once.
    pub fn credit_at_commit(self, amount: i64) {
        let entry = self.entry();
        entry.credit = entry.credit.saturating_add(amount);
    }

    /// Units used, as this transaction sees it: of others what is reserved counts, what is credited does not yet.
    pub fn used(self) -> i64 {
        self.entry().slot.used().saturating_sub(self.credit())
    }

    /// What the counter loses when this transaction commits.
    pub fn credit(self) -> i64 {
        let slot = self.entry().slot;
        STATE
            .get()
            .entries
            .iter()
            .filter(|entry| ptr::eq(entry.slot, slot))
            .fold(0, |sum: i64, entry| sum.saturating_add(entry.credit))
    }

    /// Thresholds of `reached` that this transaction must record.
    pub fn begin_crossing(self, reached: u8) -> u8 {
        let entry = self.entry();
        let mine = entry.slot.begin_crossing(reached);
        entry.crossing |= mine;
        mine
    }

    pub fn slot(self) -> &'static Slot {
        self.entry().slot
    }
}

#[derive(Clone, Copy)]
pub struct Mark(i64);

/// No slot came free.
#[derive(Debug)]
pub struct Full;

/// What a counter has, without a pin; None when it is not loaded, and when this transaction has a part in it.
pub fn peek(key: &Key) -> Option<i64> {
    let part = STATE.get().entries.iter().any(|entry| entry.key == *key);
    (!part).then(|| table::peek(key, order()))?
}

/// By the real clock, which product time may be set back from.
fn order() -> u64 {
    // SAFETY: reads a variable.
    unsafe { pg_sys::GetCurrentTransactionStartTimestamp() as u64 }
}

/// How many slots of the key's set this transaction has pinned.
fn distinct_slots(key: &Key) -> usize {
    let mut slots: Vec<*const Slot> = STATE
        .get()
        .entries
        .iter()
        .filter(|entry| entry.key.shares_set(key))
        .map(|entry| ptr::from_ref(entry.slot))
        .collect();
    slots.sort_unstable();
    slots.dedup();
    slots.len()
}

/// After this transaction has committed, loads the counters of a subject, or of everybody, again.
pub fn forget_at_commit(subject: Option<u64>) {
    let subtransaction = unsafe { pg_sys::GetCurrentSubTransactionId() };
    STATE.registered().forgotten.push((subject, subtransaction));
}

impl XactCallbacks for State {
    fn commit(&mut self) {
        // The youngest first: what a child took of its parent's credit is added before that credit is subtracted, so
        // that at no moment the counter is lower than what it comes to.
        while let Some(entry) = self.entries.pop() {
            entry.slot.give_back(entry.credit);
            entry.leave(true);
        }
        for (subject, _) in self.forgotten.drain(..) {
            table::mark_stale(subject);
        }
        self.entries.shrink_to(1024);
    }

    fn abort(&mut self, first: pg_sys::SubTransactionId) {
        while let Some(entry) = self.entries.pop_if(|entry| entry.subtransaction >= first) {
            if !entry.loading {
                entry.slot.give_back(entry.reserved);
            }
            entry.leave(false);
        }
        self.forgotten
            .retain(|(_, subtransaction)| *subtransaction < first);
    }

    /// Entries of one counter are joined, so that a loop of exception blocks does not grow.
    fn merge_into_parent(
        &mut self,
        child: pg_sys::SubTransactionId,
        parent: pg_sys::SubTransactionId,
    ) {
        for (_, subtransaction) in self.forgotten.iter_mut().filter(|(_, s)| *s == child) {
            *subtransaction = parent;
        }
        let mut at = self
            .entries
            .iter()
            .rposition(|entry| entry.subtransaction < child)
            .map_or(0, |at| at + 1);
        while at < self.entries.len() {
            let kept = find(&self.entries[..at], &self.entries[at].key, parent);
            let joined = kept.and_then(|kept| self.entries[kept].with(&self.entries[at]));
            let Some((kept, (reserved, credit))) = kept.zip(joined) else {
                self.entries[at].subtransaction = parent;
                at += 1;
                continue;
            };
            let entry = self.entries.remove(at);
            let kept = &mut self.entries[kept];
            (kept.reserved, kept.credit) = (reserved, credit);
            kept.crossing |= entry.crossing;
            entry.slot.unpin(); // never the last
        }
    }

    fn prepare_error(&self) -> Option<&'static str> {
        let holds = !(self.entries.is_empty() && self.forgotten.is_empty());
        holds.then_some(
            "cannot PREPARE a transaction that has used a quota of kijko, or loaded its counter",
        )
    }
}

/// The entry of a counter under the youngest subtransaction.
fn find(entries: &[Entry], key: &Key, subtransaction: pg_sys::SubTransactionId) -> Option<usize> {
    (0..entries.len())
        .rev()
        .take_while(|&at| entries[at].subtransaction == subtransaction)
        .find(|&at| entries[at].key == *key)
}

impl Entry {
    /// What is reserved and credited with another entry's; None at the end of numbers, where they stay two.
    fn with(&self, other: &Self) -> Option<(i64, i64)> {
        Some((
            self.reserved.checked_add(other.reserved)?,
            self.credit.checked_add(other.credit)?,
        ))
    }

    fn leave(&self, committed: bool) {
        if self.loading {
            self.slot.abandon();
            table::wake(self.slot);
            return;
        }
        if self.crossing != 0 {
            self.slot.end_crossing(self.crossing, committed);
        }
        if self.slot.unpin() {
            table::wake(self.slot);
        }
    }
}
