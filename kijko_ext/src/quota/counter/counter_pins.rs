//! The counters that this transaction has pinned, and what it has reserved of them. Pins are released after the
//! transaction has left the list of running ones (pg/xact.rs). So a load that starts after the last pin is gone sees all
//! rows of that transaction, or none.

use pgrx::prelude::*;

use super::pin_list::{PinList, PinnedCounter};
use super::slot::{Loaded, Reserved};
use super::slot_table::{self, Acquired, CHOICES, CounterKey, Slot, Stale};
use super::waiter::Waiter;
use crate::caller::{Caller, caller};
use crate::clock;
use crate::pg::plain_calls;
use crate::pg::xact::{PerTransaction, XactCallbacks};
use crate::trust;

/// How long a call waits for another transaction's load, or for a free slot, before it fails.
const LOAD_TIMEOUT: i64 = 10 * clock::SECOND;

/// How long a call waits before it assumes that the transaction it waits for waits for it.
const DEADLOCK_TIMEOUT: i64 = clock::SECOND;

struct State {
    pins: PinList,
    /// Subjects whose counters are loaded again after the commit. None means every subject.
    reloads: Vec<(Stale, pg_sys::SubTransactionId)>,
}

static STATE: PerTransaction<State> = PerTransaction::new(State {
    pins: PinList::new(),
    reloads: Vec::new(),
});

/// A counter that this transaction has pinned.
#[derive(Clone, Copy)]
pub struct Counter {
    entry: usize,
}

impl Counter {
    /// Pins the counter of `key`. If it is not in the table, `load` sums the ledger; if another transaction is loading
    /// it, waits.
    pub fn pin(key: &CounterKey, load: impl FnOnce() -> Loaded) -> Result<Self, PinError> {
        let subtransaction = plain_calls::GetCurrentSubTransactionId();
        let found = STATE.with_registered(|State { pins, .. }| {
            let entry = pins.find(key, subtransaction);
            if entry.is_none() {
                pins.reserve(); // nothing may fail between the acquisition and the entry
            }
            entry.ok_or_else(|| (pins.contains(key), exceeds_share(pins, key)))
        });
        let holder = match found {
            Ok(entry) => return Ok(Self { entry }),
            Err((false, true)) => return Err(PinError::Share(slot_table::max_pins())),
            Err((holder, _)) => holder,
        };
        let order = order();
        let (slot, loading) = match slot_table::acquire(key, holder, order) {
            Acquired::Ready(slot) => (slot, false),
            Acquired::Load(slot) => (slot, true),
            Acquired::Wait => Self::wait(key, holder, order)?,
        };
        let pinned = PinnedCounter {
            key: *key,
            slot,
            subtransaction,
            older: None,
            loading,
            thresholds: 0,
            reserved: 0,
            pending_release: 0,
        };
        let entry = STATE.with(|state| state.pins.push(pinned));
        if loading {
            let loaded = load(); // if it fails, the abort empties the slot
            slot.publish(loaded);
            STATE.with(|state| state.pins.get(entry).loading = false);
            slot_table::wake(slot);
        }
        Ok(Self { entry })
    }

    fn wait(key: &CounterKey, holder: bool, order: u64) -> Result<(&'static Slot, bool), PinError> {
        let began = clock::real_micros();
        let waited = || clock::real_micros() - began;
        let (of_key, pins) =
            STATE.with(|State { pins, .. }| (pins.slots_of(key), !pins.is_empty()));
        if of_key >= CHOICES {
            return Err(PinError::Full); // it would wait for itself
        }
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

    fn with<T>(self, body: impl FnOnce(&mut PinnedCounter) -> T) -> T {
        STATE.with(|state| body(state.pins.get(self.entry)))
    }

    /// Adds `amount` if the counter, as this transaction sees it, then stays within `limit`.
    pub fn reserve(self, amount: i64, limit: i64) -> Reserved {
        let own = self.pending_release();
        let from_own = own.min(amount);
        self.with(|entry| {
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
        })
    }

    /// A point to which `restore` returns.
    pub fn mark(self) -> Mark {
        self.with(|entry| Mark(entry.reserved))
    }

    /// Undoes a reservation of `amount` made since the mark, in the same subtransaction. Units that came from the pending
    /// release return to it. Releases made meanwhile stay: expired holds have ended all the same.
    pub fn restore(self, mark: Mark, amount: i64) {
        self.with(|entry| {
            let reserved = entry.reserved - mark.0;
            entry.slot.release(reserved);
            entry.reserved = mark.0;
            entry.pending_release += amount - reserved;
        });
    }

    /// Subtracts `amount` at commit. This transaction's own uses may consume it at once.
    pub fn release_at_commit(self, amount: i64) {
        self.with(|entry| entry.pending_release = entry.pending_release.saturating_add(amount));
    }

    /// Units used, as this transaction sees it. Reservations of other transactions count, their pending releases do not.
    pub fn used(self) -> i64 {
        let used = self.slot().used();
        used.saturating_sub(self.pending_release())
    }

    /// The units that the commit of this transaction subtracts.
    pub fn pending_release(self) -> i64 {
        // This entry is the counter's youngest: younger subtransactions have ended.
        STATE.with(|state| {
            let entries = state.pins.chain(self.entry);
            entries.fold(0, |sum: i64, entry| {
                sum.saturating_add(entry.pending_release)
            })
        })
    }

    /// Claims the thresholds of `reached` that this transaction must record.
    pub fn claim_thresholds(self, reached: u8) -> u8 {
        self.with(|entry| {
            let mine = entry.slot.claim_thresholds(reached);
            entry.thresholds |= mine;
            mine
        })
    }

    pub fn slot(self) -> &'static Slot {
        self.with(|entry| entry.slot)
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
    let is_pinned = STATE.with(|state| state.pins.contains(key));
    (!is_pinned).then(|| slot_table::peek(key, order()))?
}

/// By the real clock: product time may be set back.
fn order() -> u64 {
    plain_calls::GetCurrentTransactionStartTimestamp() as u64
}

/// Whether one more counter would be more than a share of the table: of one subject's counters, and of all counters that a
/// client's request pins, because an organization has many subjects. The service key is no client.
fn exceeds_share(pins: &PinList, key: &CounterKey) -> bool {
    let most = slot_table::max_pins();
    let is_client = || trust::is_request() && caller() != Caller::Service;
    pins.counters_of(key.of_subject()) >= most || pins.counters() >= most && is_client()
}

/// Has counters loaded again after this transaction's commit.
pub fn reload_at_commit(stale: Stale) {
    let subtransaction = plain_calls::GetCurrentSubTransactionId();
    STATE.with_registered(|state| state.reloads.push((stale, subtransaction)));
}

impl XactCallbacks for State {
    fn commit(&mut self) {
        // The youngest first: what a child consumed of its parent's pending release is added before that release is
        // subtracted. So the counter is never lower than its final value.
        while let Some(entry) = self.pins.pop() {
            entry.slot.release(entry.pending_release);
            entry.leave(true);
        }
        for (stale, _) in self.reloads.drain(..) {
            slot_table::mark_stale(stale);
        }
        self.pins.shrink();
    }

    fn abort(&mut self, first: pg_sys::SubTransactionId) {
        while let Some(entry) = self.pins.pop_from(first) {
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
        let pins = &mut self.pins;
        let mut of_child: Vec<_> = std::iter::from_fn(|| pins.pop_from(child)).collect();
        while let Some(mut entry) = of_child.pop() {
            let kept = pins.find(&entry.key, parent).map(|at| pins.get(at));
            let joined = kept.and_then(|kept| kept.with(&entry).map(|sums| (kept, sums)));
            let Some((kept, (reserved, pending_release))) = joined else {
                entry.subtransaction = parent;
                pins.push(entry);
                continue;
            };
            (kept.reserved, kept.pending_release) = (reserved, pending_release);
            kept.thresholds |= entry.thresholds;
            entry.slot.unpin(); // never the last
        }
    }

    fn prepare_error(&self) -> Option<&'static str> {
        let holds = !(self.pins.is_empty() && self.reloads.is_empty());
        holds.then_some(
            "cannot PREPARE a transaction that has used a quota of kijko, or loaded its counter",
        )
    }
}
