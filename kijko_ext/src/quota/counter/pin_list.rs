//! The list of pinned counters: which of them a key has is looked up, and how many of a subject there are is counted.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::iter;

use pgrx::pg_sys::SubTransactionId;

use super::slot_table::{self, CounterKey, Slot};

/// One counter under one subtransaction. Each entry has a pin of its own.
pub struct PinnedCounter {
    pub key: CounterKey,
    pub slot: &'static Slot,
    pub subtransaction: SubTransactionId,
    /// The entry of the same counter under an older subtransaction.
    pub older: Option<usize>,
    /// Claimed, and not published yet.
    pub loading: bool,
    /// Thresholds that this subtransaction records (slot.rs).
    pub thresholds: u8,
    /// Units added to the counter. An abort subtracts them.
    pub reserved: i64,
    /// Units that the commit subtracts from the counter: a settled hold, a gauge that falls. Later uses of the same
    /// transaction consume them first. It is negative where a subtransaction consumed its parent's.
    pub pending_release: i64,
}

/// In the order of their subtransactions. A transaction may pin thousands, so none is searched for.
pub struct PinList {
    entries: Vec<PinnedCounter>,
    /// The youngest entry of each counter.
    youngest: HashMap<CounterKey, usize, Hashed>,
    /// How many counters of each subject are pinned.
    subjects: HashMap<u64, usize, Hashed>,
}

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

impl PinList {
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
            youngest: HashMap::with_hasher(Hashed::new()),
            subjects: HashMap::with_hasher(Hashed::new()),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many counters are pinned.
    pub fn counters(&self) -> usize {
        self.youngest.len()
    }

    pub fn counters_of(&self, subject: u64) -> usize {
        self.subjects.get(&subject).copied().unwrap_or(0)
    }

    pub fn contains(&self, key: &CounterKey) -> bool {
        self.youngest.contains_key(key)
    }

    pub fn get(&mut self, entry: usize) -> &mut PinnedCounter {
        &mut self.entries[entry]
    }

    /// How many slots that a key may take are pinned.
    pub fn slots_of(&self, key: &CounterKey) -> usize {
        let counters = self.entries.iter().filter(|entry| entry.older.is_none());
        counters.filter(|entry| key.may_be_in(entry.slot)).count()
    }

    /// Adds an entry of the youngest subtransaction and returns its place.
    pub fn push(&mut self, mut entry: PinnedCounter) -> usize {
        entry.older = self.youngest.insert(entry.key, self.entries.len());
        if entry.older.is_none() {
            *self.subjects.entry(entry.key.of_subject()).or_default() += 1;
        }
        self.entries.push(entry);
        self.entries.len() - 1
    }

    pub fn pop(&mut self) -> Option<PinnedCounter> {
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
    pub fn find(&self, key: &CounterKey, subtransaction: SubTransactionId) -> Option<usize> {
        let at = *self.youngest.get(key)?;
        (self.entries[at].subtransaction == subtransaction).then_some(at)
    }

    /// The entries of a counter, by its youngest.
    pub fn chain(&self, entry: usize) -> impl Iterator<Item = &PinnedCounter> {
        iter::successors(Some(entry), |at| self.entries[*at].older).map(|at| &self.entries[at])
    }

    /// Room for one more, so that nothing can fail between the acquisition and the entry.
    pub fn reserve(&mut self) {
        self.entries.reserve(1);
        self.youngest.reserve(1);
        self.subjects.reserve(1);
    }

    /// Removes the last entry if it belongs to `first` or to a younger subtransaction.
    pub fn pop_from(&mut self, first: SubTransactionId) -> Option<PinnedCounter> {
        let last = self.entries.last()?;
        (last.subtransaction >= first).then(|| self.pop())?
    }

    /// Gives memory back that only a very large transaction needs.
    pub fn shrink(&mut self) {
        self.entries.shrink_to(1024);
        self.youngest.shrink_to(1024);
        self.subjects.shrink_to(1024);
    }
}

impl PinnedCounter {
    /// The sums with another entry. None when they overflow; the entries then stay separate.
    pub fn with(&self, other: &Self) -> Option<(i64, i64)> {
        Some((
            self.reserved.checked_add(other.reserved)?,
            self.pending_release.checked_add(other.pending_release)?,
        ))
    }

    /// Removes the pin, after what the transaction has done to the counter.
    pub fn leave(&self, committed: bool) {
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
