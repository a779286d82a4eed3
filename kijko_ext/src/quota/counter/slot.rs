//! One counter in shared memory: its states, its pins and its arithmetic. Pure, and generic over the atomic word, so
//! that the model checker (kijko_ext/model) runs this file itself.
//!
//! A slot is empty, loading (one transaction sums the ledger) or ready. A transaction that uses a slot holds a pin until
//! it has ended. A slot changes its key only while it has no pins. So `used` is always the ledger's committed sum, plus
//! what running transactions have reserved, plus open holds: the sum of the ledger can reach the limit but never pass it.
//!
//! Functions documented to need the shared or the exclusive lock rely on the lock of the slot's partition
//! (slot_table.rs). All others need a pin and no lock.

/// An atomic 64-bit word. Every operation is sequentially consistent or acquire/release, at the implementer's choice.
pub trait Word {
    fn load(&self) -> u64;
    fn store(&self, value: u64);
    /// The former value as `Err` when it was not `current`.
    fn compare_exchange(&self, current: u64, new: u64) -> Result<u64, u64>;
}

/// 64 bytes, one cache line. All zero is an empty slot.
#[repr(C, align(64))]
pub struct Slot<W> {
    /// Hash of database, ledger, subject, meter and period (slot_table.rs). Written under the exclusive lock.
    key: [W; 2],
    /// Hash of the subject alone, so that all slots of a subject can be found.
    subject: W,
    /// Status, the stale flag, and the number of pins from bit 8 up.
    state: W,
    /// Committed, reserved and held units (i64).
    used: W,
    /// Thresholds that are recorded, and thresholds that a running transaction is recording (two groups of bits).
    thresholds: W,
    /// No hold of this counter expires before this time (i64, Postgres microseconds).
    next_expiry: W,
    /// Order of last use, to choose a victim.
    touched: W,
}

const EMPTY: u64 = 0;
const LOADING: u64 = 1;
const READY: u64 = 2;
const STATUS: u64 = 3;
/// The tables were changed by other means: load again as soon as there are no pins.
const STALE: u64 = 4;
const PIN: u64 = 1 << 8;

/// Bits 0 to 7: thresholds that are recorded. Bits 8 to 15: thresholds that are being recorded.
const PENDING_SHIFT: u32 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    Pinned,
    /// Another transaction is loading it: wait.
    Loading,
    /// Must be loaded again: wait until its last pin is gone, then claim it.
    Stale,
    Empty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// `used` with the reservation.
    Yes(i64),
    /// `used`, unchanged.
    No(i64),
}

/// The result of a load from the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Units: committed and held.
    pub used: i64,
    /// Bits of the thresholds that are recorded.
    pub thresholds: u8,
    /// Postgres microseconds; `i64::MAX` when there is no open hold.
    pub next_expiry: i64,
}

impl<W: Word> Slot<W> {
    /// For the model. In shared memory all words start as zero.
    #[cfg(test)]
    #[allow(
        dead_code,
        reason = "the extension's own tests take theirs from shared memory"
    )]
    pub fn empty(mut zero: impl FnMut() -> W) -> Self {
        Self {
            key: [zero(), zero()],
            subject: zero(),
            state: zero(),
            used: zero(),
            thresholds: zero(),
            next_expiry: zero(),
            touched: zero(),
        }
    }

    pub fn is(&self, key: [u64; 2]) -> bool {
        self.key[0].load() == key[0] && self.key[1].load() == key[1]
    }

    pub fn is_of(&self, subject: u64, of: u64) -> bool {
        self.subject.load() & of == subject & of
    }

    pub fn is_empty(&self) -> bool {
        self.state.load() & STATUS == EMPTY
    }

    pub fn is_pinned(&self) -> bool {
        self.state.load() >= PIN
    }

    pub fn touched(&self) -> u64 {
        self.touched.load()
    }

    pub fn touch(&self, order: u64) {
        self.touched.store(order);
    }

    /// Pins a ready slot. Needs the shared lock. `holder`: this transaction holds a pin of this slot, or of a slot that a
    /// holder of this one may be waiting for. It then pins a stale slot too, because waiting for the reload would be
    /// waiting for itself.
    pub fn pin(&self, holder: bool) -> Pin {
        let mut state = self.state.load();
        loop {
            match state & STATUS {
                READY if state & STALE != 0 && !holder => return Pin::Stale,
                READY => match self.state.compare_exchange(state, state + PIN) {
                    Ok(_) => return Pin::Pinned,
                    Err(now) => state = now,
                },
                LOADING => return Pin::Loading,
                _ => return Pin::Empty,
            }
        }
    }

    /// Removes one pin. True when it was the last: a waiter may have to be woken.
    pub fn unpin(&self) -> bool {
        self.change(&self.state, |state| state - PIN) < PIN * 2
    }

    /// Gives an unpinned slot to `key`, with one pin and in the state loading. Needs the exclusive lock. False when it is
    /// pinned.
    pub fn claim(&self, key: [u64; 2], subject: u64) -> bool {
        let state = self.state.load();
        // Pins are added under the shared lock only, so none can appear here.
        if state >= PIN || state & STATUS == LOADING {
            return false;
        }
        self.key[0].store(key[0]);
        self.key[1].store(key[1]);
        self.subject.store(subject);
        self.state.store(LOADING + PIN);
        true
    }

    /// Makes the loader's sum the counter. Its pin stays. A slot that became stale meanwhile stays stale.
    pub fn publish(&self, loaded: Loaded) {
        self.used.store(loaded.used as u64);
        self.thresholds.store(u64::from(loaded.thresholds));
        self.next_expiry.store(loaded.next_expiry as u64);
        self.change(&self.state, |state| state & !STATUS | READY);
    }

    /// Empties the slot after a failed load. A loading slot has no other pins.
    pub fn abandon(&self) {
        self.state.store(EMPTY);
    }

    /// Requires a new load. Needs the shared lock.
    pub fn mark_stale(&self) {
        self.change(&self.state, |state| {
            if state & STATUS == EMPTY {
                state
            } else {
                state | STALE
            }
        });
    }

    pub fn used(&self) -> i64 {
        self.used.load() as i64
    }

    /// Reads `used` without a pin. None when it must be loaded first. Needs the shared lock, so that the slot keeps its key.
    pub fn peek(&self) -> Option<i64> {
        (self.state.load() & (STATUS | STALE) == READY).then(|| self.used())
    }

    /// Adds `amount` if `used` then stays within `ceiling`. Needs a pin; `amount` is not negative.
    pub fn reserve(&self, amount: i64, ceiling: i64) -> Reserved {
        let mut used = self.used.load();
        loop {
            match (used as i64).checked_add(amount) {
                Some(sum) if sum <= ceiling => match self.used.compare_exchange(used, sum as u64) {
                    Ok(_) => return Reserved::Yes(sum),
                    Err(now) => used = now,
                },
                _ => return Reserved::No(used as i64),
            }
        }
    }

    /// Subtracts `amount`: a reservation on abort, a pending release at commit. Needs a pin. Saturates.
    pub fn release(&self, amount: i64) {
        self.change(&self.used, |used| {
            (used as i64).saturating_sub(amount) as u64
        });
    }

    /// Claims the thresholds of `reached` that no transaction has recorded or is recording, for this transaction to record.
    pub fn claim_thresholds(&self, reached: u8) -> u8 {
        let taken = self.thresholds.load();
        if u64::from(reached) & !(taken | taken >> PENDING_SHIFT) == 0 {
            return 0; // almost always
        }
        let mut mine = 0;
        self.change(&self.thresholds, |thresholds| {
            let taken = (thresholds | thresholds >> PENDING_SHIFT) as u8;
            mine = reached & !taken;
            thresholds | u64::from(mine) << PENDING_SHIFT
        });
        mine
    }

    /// Marks claimed thresholds as recorded, or as free again, when their transaction has ended.
    pub fn finish_thresholds(&self, mine: u8, recorded: bool) {
        self.change(&self.thresholds, |thresholds| {
            let thresholds = thresholds & !(u64::from(mine) << PENDING_SHIFT);
            if recorded {
                thresholds | u64::from(mine)
            } else {
                thresholds
            }
        });
    }

    pub fn next_expiry(&self) -> i64 {
        self.next_expiry.load() as i64
    }

    pub fn expect_expiry(&self, at: i64) {
        self.change(&self.next_expiry, |expiry| (expiry as i64).min(at) as u64);
    }

    /// Postpones the next search for expired holds.
    pub fn postpone_expiry_search(&self, at: i64) {
        self.next_expiry.store(at as u64);
    }

    /// Applies `f` to a word atomically and returns the former value.
    fn change(&self, word: &W, mut f: impl FnMut(u64) -> u64) -> u64 {
        let mut value = word.load();
        loop {
            match word.compare_exchange(value, f(value)) {
                Ok(former) => return former,
                Err(now) => value = now,
            }
        }
    }
}
