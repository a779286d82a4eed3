//! The counters that this transaction has pinned, and what it has reserved of them. Pins are released after the
//! transaction has left the list of running ones (pg/xact.rs). So a load that starts after the last pin is gone sees all
//! rows of that transaction, or none.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use pgrx::prelude::*;

use super::slot::{Loaded, Reserved};
use super::slot_table::{self, Acquired, CHOICES, CounterKey, Slot, Waiter};
use crate::clock;
use crate::pg::xact::{PerTransaction, XactCallbacks};
use crate::trust;

/// How long a call waits for another transaction's load, or for a free slot, before it fails.
const LOAD_TIMEOUT: i64 = 10 * clock::SECOND;

/// How long a call waits before it assumes that the transaction it waits for waits for it.
const DEADLOCK_TIMEOUT: i64 = clock::SECOND;

/// One counter under one subtransaction. Each entry has a pin of its own.
struct PinnedCounter {
    key: CounterKey,
    slot: &'static Slot,
    subtransaction: pg_sys::SubTransactionId,
    /// The entry of the same counter under an older subtransaction.
    older: Option<usize>,
    /// Claimed, and not published yet.
    loading: bool,
    /// Thresholds that this subtransaction records (slot.rs).
    thresholds: u8,
    /// Units added to the counter. An abort subtracts them.
    reserved: i64,
    /// Units that the commit subtracts from the counter: a settled hold, a gauge that falls. Later uses of the same
    /// transaction consume them first. It is negative where a subtransaction consumed its parent's.
    pending_release: i64,
}

/// The pinned counters, in the order of their subtransactions. A transaction may pin thousands, so none is searched for.
struct State {
    entries: Vec<PinnedCounter>,
    /// The youngest entry of each counter.
    youngest: HashMap<CounterKey, usize, Hashed>,
    /// How many counters of each subject are pinned.
    subjects: HashMap<u64, usize, Hashed>,
    /// Subjects whose counters are loaded again after the commit. None means every subject.
    reloads: Vec<(Option<u64>, pg_sys::SubTransactionId)>,
}

static STATE: PerTransaction<State> = PerTransaction::new(State {
    entries: Vec::new(),
    youngest: HashMap::with_hasher(Hashed::new()),
    subjects: HashMap::with_hasher(Hashed::new()),
    reloads: Vec::new(),
});

type Hashed = BuildHasherDefault<FirstWord>;

/// Keys are hashes already.
#[derive(Default)]
struct FirstWord(u64);

impl Hasher for FirstWord {
    /// Never called.
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

impl State {
    fn push(&mut self, mut entry: PinnedCounter) {
        entry.older = self.youngest.insert(entry.key, self.entries.len());
        if entry.older.is_none() {
            *self.subjects.entry(entry.key.of_subject()).or_default() += 1;
        }
        self.entries.push(entry);
    }

    fn pop(&mut self) -> Option<PinnedCounter> {
        let entry = self.entries.pop()?;
        match entry.older {
            Some(older) => _ = self.youngest.insert(entry.key, older),
            None => {
                self.youngest.remove(&entry.key);
                let subject = entry.key.of_subject();
                match self.subjects.get_mut(&subject) {
                    Some(pinned) if *pinned > 1 => *pinned -= 1,
                    _ => _ = self.subjects.remove(&subject),
                }
            }
        }
        Some(entry)
    }

    /// The entry of a counter under a subtransaction, which no younger one has pinned.
    fn find(&self, key: &CounterKey, subtransaction: pg_sys::SubTransactionId) -> Option<usize> {
        let at = *self.youngest.get(key)?;
        (self.entries[at].subtransaction == subtransaction).then_some(at)
    }

    /// The entries of a counter.
    fn of(&self, key: &CounterKey) -> impl Iterator<Item = &PinnedCounter> {
        let youngest = self.youngest.get(key).copied();
        std::iter::successors(youngest, |at| self.entries[*at].older).map(|at| &self.entries[at])
    }

    /// Room for one more, so that nothing can fail between the acquisition and the entry.
    fn reserve(&mut self) {
        self.entries.reserve(1);
        self.youngest.reserve(1);
        self.subjects.reserve(1);
    }

    /// Whether one more counter would be more than a share of the table: of one subject's counters, and of all counters that a
    /// client's request pins, because an organization has many subjects.
    fn exceeds_share(&self, key: &CounterKey) -> bool {
        let most = slot_table::max_pins();
        let of_subject = || self.subjects.get(&key.of_subject()).copied().unwrap_or(0);
        self.youngest.len() >= most && trust::is_request() || of_subject() >= most
    }
}

/// A counter that this transaction has pinned.
#[derive(Clone, Copy)]
pub struct Counter {
    entry: usize,
}

impl Counter {
    /// Pins the counter of `key`. If it is not in the table, `load` sums the ledger; if another transaction is loading
    /// it, waits.
    pub fn pin(key: &CounterKey, load: impl FnOnce() -> Loaded) -> Result<Self, PinError> {
        let subtransaction = unsafe { pg_sys::GetCurrentSubTransactionId() };
        let state = STATE.registered();
        if let Some(entry) = state.find(key, subtransaction) {
            return Ok(Self { entry });
        }
        let holder = state.youngest.contains_key(key);
        if !holder && state.exceeds_share(key) {
            return Err(PinError::Share(slot_table::max_pins()));
        }
        let order = order();
        state.reserve();
        let (slot, loading) = match slot_table::acquire(key, holder, order) {
            Acquired::Ready(slot) => (slot, false),
            Acquired::Load(slot) => (slot, true),
            Acquired::Wait => Self::wait(key, holder, order)?,
        };
        let state = STATE.get();
        state.push(PinnedCounter {
            key: *key,
            slot,
            subtransaction,
            older: None,
            loading,
            thresholds: 0,
            reserved: 0,
            pending_release: 0,
        });
        let entry = state.entries.len() - 1;
        if loading {
            let loaded = load(); // if it fails, the abort empties the slot
            slot.publish(loaded);
            STATE.get().entries[entry].loading = false;
            slot_table::wake(slot);
        }
        Ok(Self { entry })
    }

    fn wait(key: &CounterKey, holder: bool, order: u64) -> Result<(&'static Slot, bool), PinError> {
        let began = clock::real_micros();
        let waited = || clock::real_micros() - began;
        if distinct_slots(key) >= CHOICES {
            return Err(PinError::Full); // it would wait for itself
        }
        let pins = !STATE.get().entries.is_empty();
        let waiter = Waiter::new(key);
        loop {
            let mut acquired = slot_table::acquire(key, holder, order);
            // Two transactions, each with a stale counter that the other wants, would wait for each other.
            if matches!(acquired, Acquired::Wait) && pins && waited() > DEADLOCK_TIMEOUT {
                acquired = slot_table::acquire(key, true, order);
            }
            match acquired {
                Acquired::Ready(slot) => return Ok((slot, false)),
                Acquired::Load(slot) => return Ok((slot, true)),
                Acquired::Wait if waited() > LOAD_TIMEOUT => return Err(PinError::Full),
                Acquired::Wait => waiter.sleep(),
            }
        }
    }

    fn entry(self) -> &'static mut PinnedCounter {
        &mut STATE.get().entries[self.entry]
    }

    /// Adds `amount` if the counter, as this transaction sees it, then stays within `limit`.
    pub fn reserve(self, amount: i64, limit: i64) -> Reserved {
        let own = self.pending_release();
        let from_own = own.min(amount);
        let entry = self.entry();
        // Overflows only after corrections far below zero.
        let Some(reserved) = entry.reserved.checked_add(amount - from_own) else {
            return Reserved::No(entry.slot.used().saturating_sub(own));
        };
        // The rest of the own pending release is still in the counter, but not in use.
        match entry
            .slot
            .reserve(amount - from_own, limit.saturating_add(own - from_own))
        {
            Reserved::Yes(used) => {
                entry.reserved = reserved;
                entry.pending_release -= from_own;
                Reserved::Yes(used - (own - from_own))
            }
            Reserved::No(used) => Reserved::No(used.saturating_sub(own)),
        }
    }

    /// A point to which `restore` returns.
    pub fn mark(self) -> Mark {
        Mark(self.entry().reserved)
    }

    /// Undoes a reservation of `amount` made since the mark, in the same subtransaction. Units that came from the pending
    /// release return to it. Releases made meanwhile stay: expired holds have ended all the same.
    pub fn restore(self, mark: Mark, amount: i64) {
        let entry = self.entry();
        let reserved = entry.reserved - mark.0;
        entry.slot.release(reserved);
        entry.reserved = mark.0;
        entry.pending_release += amount - reserved;
    }

    /// Subtracts `amount` at commit. This transaction's own uses may consume it at once.
    pub fn release_at_commit(self, amount: i64) {
        let entry = self.entry();
        entry.pending_release = entry.pending_release.saturating_add(amount);
    }

    /// Units used, as this transaction sees it. Reservations of other transactions count, their pending releases do not.
    pub fn used(self) -> i64 {
        self.entry()
            .slot
            .used()
            .saturating_sub(self.pending_release())
    }

    /// The units that the commit of this transaction subtracts.
    pub fn pending_release(self) -> i64 {
        let state = STATE.get();
        state
            .of(&state.entries[self.entry].key)
            .fold(0, |sum: i64, entry| {
                sum.saturating_add(entry.pending_release)
            })
    }

    /// Claims the thresholds of `reached` that this transaction must record.
    pub fn claim_thresholds(self, reached: u8) -> u8 {
        let entry = self.entry();
        let mine = entry.slot.claim_thresholds(reached);
        entry.thresholds |= mine;
        mine
    }

    pub fn slot(self) -> &'static Slot {
        self.entry().slot
    }
}

#[derive(Clone, Copy)]
pub struct Mark(i64);

#[derive(Debug)]
pub enum PinError {
    /// No slot became free: running transactions use every slot that it may take.
    Full,
    /// The transaction would use more counters of the subject than this, or in all if it is a client's request.
    Share(usize),
}

/// Reads a counter without a pin. None when it is not loaded, and when this transaction has it pinned.
pub fn peek(key: &CounterKey) -> Option<i64> {
    let is_pinned = STATE.get().youngest.contains_key(key);
    (!is_pinned).then(|| slot_table::peek(key, order()))?
}

/// By the real clock: product time may be set back.
fn order() -> u64 {
    // SAFETY: reads a variable.
    unsafe { pg_sys::GetCurrentTransactionStartTimestamp() as u64 }
}

/// How many slots that the key may take this transaction has pinned.
fn distinct_slots(key: &CounterKey) -> usize {
    let entries = STATE.get().entries.iter();
    let counters = entries.filter(|entry| entry.older.is_none());
    counters.filter(|entry| key.may_be_in(entry.slot)).count()
}

/// Has the counters of a subject, or all counters, loaded again after this transaction's commit.
pub fn reload_at_commit(subject: Option<u64>) {
    let subtransaction = unsafe { pg_sys::GetCurrentSubTransactionId() };
    STATE.registered().reloads.push((subject, subtransaction));
}

impl XactCallbacks for State {
    fn commit(&mut self) {
        // The youngest first: what a child consumed of its parent's pending release is added before that release is
        // subtracted. So the counter is never lower than its final value.
        while let Some(entry) = self.pop() {
            entry.slot.release(entry.pending_release);
            entry.leave(true);
        }
        for (subject, _) in self.reloads.drain(..) {
            slot_table::mark_stale(subject);
        }
        self.entries.shrink_to(1024);
        self.youngest.shrink_to(1024);
        self.subjects.shrink_to(1024);
    }

    fn abort(&mut self, first: pg_sys::SubTransactionId) {
        let is_dropped = |entry: &PinnedCounter| entry.subtransaction >= first;
        while self.entries.last().is_some_and(is_dropped) {
            let Some(entry) = self.pop() else { break };
            if !entry.loading {
                entry.slot.release(entry.reserved);
            }
            entry.leave(false);
        }
        self.reloads
            .retain(|(_, subtransaction)| *subtransaction < first);
    }

    /// Joins entries of the same counter, so that a loop of exception blocks does not grow the list.
    fn merge_into_parent(
        &mut self,
        child: pg_sys::SubTransactionId,
        parent: pg_sys::SubTransactionId,
    ) {
        for (_, subtransaction) in self.reloads.iter_mut().filter(|(_, s)| *s == child) {
            *subtransaction = parent;
        }
        let mut of_child = Vec::new();
        while self
            .entries
            .last()
            .is_some_and(|entry| entry.subtransaction >= child)
        {
            of_child.extend(self.pop());
        }
        while let Some(mut entry) = of_child.pop() {
            let kept = self
                .find(&entry.key, parent)
                .map(|at| &mut self.entries[at]);
            let joined = kept.and_then(|kept| kept.with(&entry).map(|sums| (kept, sums)));
            let Some((kept, (reserved, pending_release))) = joined else {
                entry.subtransaction = parent;
                self.push(entry);
                continue;
            };
            (kept.reserved, kept.pending_release) = (reserved, pending_release);
            kept.thresholds |= entry.thresholds;
            entry.slot.unpin(); // never the last
        }
    }

    fn prepare_error(&self) -> Option<&'static str> {
        let holds = !(self.entries.is_empty() && self.reloads.is_empty());
        holds.then_some(
            "cannot PREPARE a transaction that has used a quota of kijko, or loaded its counter",
        )
    }
}

impl PinnedCounter {
    /// The sums with another entry. None when they overflow; the entries then stay separate.
    fn with(&self, other: &Self) -> Option<(i64, i64)> {
        Some((
            self.reserved.checked_add(other.reserved)?,
            self.pending_release.checked_add(other.pending_release)?,
        ))
    }

    fn leave(&self, committed: bool) {
        if self.loading {
            self.slot.abandon();
            slot_table::wake(self.slot);
            return;
        }
        if self.thresholds != 0 {
            self.slot.finish_thresholds(self.thresholds, committed);
        }
        if self.slot.unpin() {
            slot_table::wake(self.slot);
        }
    }
}
