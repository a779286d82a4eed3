//! One counter in shared memory: its states, its pins and its arithmetic. Pure, and generic over the atomic word, so
//! that the model checker (kijko_ext/model) runs this very file.
//!
//! A slot is empty, loading (one transaction sums the ledger) or ready. Whoever uses a slot holds a pin until its
//! transaction has ended; a slot is taken from its key only while nobody holds one. So `used` is always the ledger's
//! committed sum, plus what running transactions have reserved, plus open holds: the sum of the ledger can reach the
//! limit but never pass it.
//!
//! What is said to need the shared or the exclusive lock relies on the lock of the slot's partition (table.rs).
//! Everything else needs a pin and no lock.

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
    /// Hash of database, ledger, subject, meter and period (table.rs). Written under the exclusive lock.
    key: [W; 2],
    /// Hash of the subject alone, so that all slots of a subject can be found.
    subject: W,
    /// Status, the stale flag, and the number of pins from bit 8 up.
    state: W,
    /// Committed, reserved and held units (i64).
    used: W,
    /// Which thresholds are recorded, and which a running transaction is about to record (two groups of bits).
    crossed: W,
    /// Until then no hold of this counter can expire (i64, Postgres microseconds).
    next_expiry: W,
    /// Order of last use, to choose a victim.
    touched: W,
}

const EMPTY: u64 = 0;
const LOADING: u64 = 1;
const READY: u64 = 2;
const STATUS: u64 = 3;
/// The ledger was changed behind the slot's back: load again as soon as nobody holds a pin.
const STALE: u64 = 4;
const PIN: u64 = 1 << 8;

/// Thresholds that are recorded, bits 0 to 7; those about to be recorded, bits 8 to 15.
const PENDING_SHIFT: u32 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    Pinned,
    /// Somebody is loading it: wait.
    Loading,
    /// To be loaded again; wait until its last pin is gone, then claim it.
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

/// What a load found in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Units: committed and held.
    pub used: i64,
    /// Bits of the thresholds that are recorded.
    pub crossed: u8,
    /// Postgres microseconds; `i64::MAX` when there is no open hold.
    pub next_expiry: i64,
}

impl<W: Word> Slot<W> {
    /// For the model: in shared memory all words are zero to begin with.
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
            crossed: zero(),
            next_expiry: zero(),
            touched: zero(),
        }
    }

    pub fn is(&self, key: [u64; 2]) -> bool {
        self.key[0].load() == key[0] && self.key[1].load() == key[1]
    }

    pub fn is_of(&self, subject: u64) -> bool {
        self.subject.load() == subject
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

    /// Pins a ready slot; needs the shared lock. `holder`: this transaction holds a pin already, or another slot that those
    /// may want who hold one, so a stale slot cannot be reloaded before it ends, and to wait for that would be to wait for itself.
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

    /// One pin less. True when it was the last, so that somebody may be waiting for that.
    pub fn unpin(&self) -> bool {
        self.change(&self.state, |state| state - PIN) < PIN * 2
    }

    /// Takes an unpinned slot for `key`, pinned once and loading; needs the exclusive lock. False when it is pinned.
    pub fn claim(&self, key: [u64; 2], subject: u64) -> bool {
        let state = self.state.load();
        // Pins are taken under the shared lock only, so none can appear here.
        if state >= PIN || state & STATUS == LOADING {
            return false;
        }
        self.key[0].store(key[0]);
        self.key[1].store(key[1]);
        self.subject.store(subject);
        self.state.store(LOADING + PIN);
        true
    }

    /// The loader's sum becomes the counter; its pin stays. A slot that went stale meanwhile stays stale.
    pub fn publish(&self, loaded: Loaded) {
        self.used.store(loaded.used as u64);
        self.crossed.store(u64::from(loaded.crossed));
        self.next_expiry.store(loaded.next_expiry as u64);
        self.change(&self.state, |state| state & !STATUS | READY);
    }

    /// The loader failed: nobody else can hold a pin of a loading slot, so it is simply empty again.
    pub fn abandon(&self) {
        self.state.store(EMPTY);
    }

    /// Whatever is there must be loaded again. Needs the shared lock.
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

    /// `used` for who only looks, without a pin; None when it has to be loaded first. Needs the shared lock, so that it is
    /// not another key's by then.
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

    /// Takes back what was reserved, or at commit what was credited. Needs a pin. At the end of numbers it stays there.
    pub fn give_back(&self, amount: i64) {
        self.change(&self.used, |used| {
            (used as i64).saturating_sub(amount) as u64
        });
    }

    /// The thresholds of `reached` that nobody has recorded or is recording; from now on this transaction is.
    pub fn begin_crossing(&self, reached: u8) -> u8 {
        let taken = self.crossed.load();
        if u64::from(reached) & !(taken | taken >> PENDING_SHIFT) == 0 {
            return 0; // all but a few calls of a period
        }
        let mut mine = 0;
        self.change(&self.crossed, |crossed| {
            let taken = (crossed | crossed >> PENDING_SHIFT) as u8;
            mine = reached & !taken;
            crossed | u64::from(mine) << PENDING_SHIFT
        });
        mine
    }

    /// The transaction that was recording `mine` has ended.
    pub fn end_crossing(&self, mine: u8, recorded: bool) {
        self.change(&self.crossed, |crossed| {
            let crossed = crossed & !(u64::from(mine) << PENDING_SHIFT);
            if recorded {
                crossed | u64::from(mine)
            } else {
                crossed
            }
        });
    }

    pub fn next_expiry(&self) -> i64 {
        self.next_expiry.load() as i64
    }

    pub fn expect_expiry(&self, at: i64) {
        self.change(&self.next_expiry, |expiry| (expiry as i64).min(at) as u64);
    }

    /// Expired holds were looked for; not again before `at`.
    pub fn looked_for_expired(&self, at: i64) {
        self.next_expiry.store(at as u64);
    }

    /// Replaces a word by what `f` makes of it, and returns the former value.
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
