//! Evaluations of the platform's flags that are not in the table yet, in shared memory. An evaluation takes the lock of its slot
//! shared and adds one; nothing is written to a table, so it also counts in a READ ONLY transaction, and stays when its
//! transaction rolls back. The worker of the database moves the counts to `kijko.flag_evaluations` (flush.rs).
//!
//! A slot is of a flag in an environment and an hour, and of the variant that was given. It can be given to another one while its
//! counts are zero. Where all slots that an evaluation may take have counts, it is not counted, which `kijko.stats()` tells.

use std::cell::Cell;
use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, Ordering};

use kijko_flags::Evaluation;

use crate::clock;
use crate::guc;
use crate::shmem::Region;
use crate::shmem::set_associative::{AtomicKey, Key, KeyedSlot, Table, own_database};

const LOCKS: usize = 16;
/// 640 bytes each. 500 flags in two environments, each with two variants, take about a third of them.
const SLOTS: usize = 8_192;
const HOUR: i64 = 3_600 * clock::SECOND;
/// Of the names of an environment, a flag (100 characters) and a variant.
const TEXT_WORDS: usize = 72;
const MAX_TEXT: usize = TEXT_WORDS * size_of::<u64>();
const SEPARATOR: u8 = 0;

static TABLE: Table<Header, Slot, LOCKS> = Table::new();

pub const SHMEM_REGION: Region = Region {
    name: c"kijko flag evaluations",
    size: || TABLE.size(SLOTS),
    locks: LOCKS,
    attach: |start, locks| unsafe { TABLE.attach(start, locks, SLOTS) },
};

#[repr(C, align(64))]
struct Header {
    /// Grows with each evaluation, so that a worker knows whether it has to look.
    counted: AtomicU64,
    flushed: AtomicU64,
    lost: AtomicU64,
}

/// All zero is an empty slot. All but the counts changes under the exclusive lock only.
#[repr(C)]
struct Slot {
    key: AtomicKey,
    database: AtomicU64,
    /// In product time: hours since 2000-01-01 UTC.
    hour: AtomicU64,
    yes: AtomicU64,
    no: AtomicU64,
    length: AtomicU64,
    text: [AtomicU64; TEXT_WORDS],
    /// So that slots do not share a cache line.
    unused: AtomicU64,
}

impl KeyedSlot for Slot {
    type Key = Key;

    fn holds(&self, key: Key) -> bool {
        self.key.is(key)
    }
}

impl Slot {
    fn is_empty(&self) -> bool {
        self.yes.load(Ordering::Acquire) == 0 && self.no.load(Ordering::Acquire) == 0
    }

    fn add(&self, enabled: bool) {
        let count = if enabled { &self.yes } else { &self.no };
        count.fetch_add(1, Ordering::AcqRel);
    }

    fn take(&self, key: Key, hour: u64, text: &[u8]) {
        self.key.store(key);
        self.database.store(own_database(), Ordering::Relaxed);
        self.hour.store(hour, Ordering::Relaxed);
        self.set_text(text);
    }

    fn set_text(&self, text: &[u8]) {
        self.length.store(text.len() as u64, Ordering::Relaxed);
        for (word, bytes) in self.text.iter().zip(text.chunks(size_of::<u64>())) {
            let mut padded = [0; size_of::<u64>()];
            padded[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_ne_bytes(padded), Ordering::Relaxed);
        }
    }

    fn text(&self) -> Vec<u8> {
        let words = self.text.iter().map(|word| word.load(Ordering::Relaxed));
        let mut text: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
        text.truncate(self.length.load(Ordering::Relaxed) as usize);
        text
    }
}

/// What the worker moves to the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    pub environment: String,
    pub flag: String,
    /// Empty: none.
    pub variant: String,
    /// Beginning of the hour, in product time.
    pub hour: i64,
    pub yes: u64,
    pub no: u64,
    slot: usize,
}

/// Counts an evaluation, in a database that has a worker.
pub fn add(environment: &str, evaluation: &Evaluation) {
    if !guc::databases::is_listed() {
        return;
    }
    let variant = match evaluation.variant_enabled {
        true => evaluation.variant.as_str(),
        false => "",
    };
    let Some(text) = joined([environment, &evaluation.name, variant]) else {
        TABLE.header().lost.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let hour = hour_of(clock::now_micros());
    let key = TABLE.hash(|hasher| {
        hasher.write_u64(own_database());
        hasher.write_u64(hour);
        hasher.write(&text);
    });
    let add = |slot: &Slot| slot.add(evaluation.enabled);
    let without_count = |slot: &Slot| slot.is_empty().then_some(());
    let set = TABLE.set_of(key[0]);
    let counted = TABLE.update(set, key, add, without_count, |free, ()| {
        free.take(key, hour, &text);
    });
    let header = TABLE.header();
    let figure = match counted {
        Some(()) => &header.counted,
        None => &header.lost,
    };
    figure.fetch_add(1, Ordering::Release);
}

/// Hours since 2000-01-01 UTC. Times before it are of its first hour.
fn hour_of(at: i64) -> u64 {
    at.max(0).unsigned_abs() / HOUR.unsigned_abs()
}

/// Names have no zero bytes. None: too long for a slot.
fn joined(names: [&str; 3]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(MAX_TEXT);
    for (place, name) in names.iter().enumerate() {
        if place > 0 {
            text.push(SEPARATOR);
        }
        text.extend_from_slice(name.as_bytes());
    }
    (text.len() <= MAX_TEXT).then_some(text)
}

fn split(text: &[u8]) -> Option<[String; 3]> {
    let mut names = text
        .splitn(3, |byte| *byte == SEPARATOR)
        .map(|name| String::from_utf8(name.to_vec()).ok());
    Some([names.next()??, names.next()??, names.next()??])
}

thread_local! {
    /// The evaluations that this worker has looked at.
    static SEEN: Cell<u64> = const { Cell::new(0) };
}

/// All counts of this database. Only its worker takes them from the table.
pub fn pending() -> Vec<Count> {
    let counted = TABLE.header().counted.load(Ordering::Acquire);
    if SEEN.replace(counted) == counted {
        return Vec::new();
    }
    // A slot with a count keeps its names, so no lock is needed.
    let slots = TABLE.all().enumerate();
    slots
        .filter(|(_, slot)| {
            !slot.is_empty() && slot.database.load(Ordering::Relaxed) == own_database()
        })
        .filter_map(|(at, slot)| {
            let [environment, flag, variant] = split(&slot.text())?;
            Some(Count {
                environment,
                flag,
                variant,
                hour: slot.hour.load(Ordering::Relaxed) as i64 * HOUR,
                yes: slot.yes.load(Ordering::Acquire),
                no: slot.no.load(Ordering::Acquire),
                slot: at,
            })
        })
        .collect()
}

/// The transaction that wrote these has committed.
pub fn mark_written(counts: &[Count]) {
    for count in counts {
        let slot = TABLE.get(count.slot);
        slot.yes.fetch_sub(count.yes, Ordering::AcqRel);
        slot.no.fetch_sub(count.no, Ordering::AcqRel);
        let flushed = &TABLE.header().flushed;
        flushed.fetch_add(count.yes + count.no, Ordering::Relaxed);
    }
}

/// Leaves work for this worker's next round.
pub fn look_again() {
    SEEN.set(u64::MAX);
}

/// Figures for `kijko.stats()`, since the server started.
pub fn stats() -> [(&'static str, u64); 5] {
    let header = TABLE.header();
    let load = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
    let used = TABLE.all().filter(|slot| !slot.is_empty()).count();
    [
        ("flag.slots", TABLE.slots() as u64),
        ("flag.used", used as u64),
        ("flag.counted", load(&header.counted)),
        ("flag.flushed", load(&header.flushed)),
        ("flag.lost", load(&header.lost)),
    ]
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn names_come_back_as_they_were() {
        for names in [["production", "new-editor", ""], ["a", "bé", "blue"]] {
            assert_eq!(split(&joined(names).unwrap()).unwrap(), names);
        }
        assert!(joined([&"e".repeat(63), &"é".repeat(200), &"v".repeat(100)]).is_some());
        assert!(joined(["e", &"f".repeat(MAX_TEXT), ""]).is_none());
    }

    #[test]
    fn a_slot_keeps_what_it_is_of() {
        // SAFETY: all of it is atomic, and zero is an empty one.
        let slot: Slot = unsafe { std::mem::zeroed() };
        let text = joined(["production", "a-flag-of-some-length", "blue"]).unwrap();
        assert!(slot.is_empty());
        slot.set_text(&text);
        assert_eq!(slot.text(), text);
        slot.add(false);
        assert!(!slot.is_empty());
    }

    #[test]
    fn an_hour_is_of_its_times() {
        assert_eq!(hour_of(0), 0);
        assert_eq!(hour_of(HOUR - 1), 0);
        assert_eq!(hour_of(HOUR), 1);
        assert_eq!(hour_of(i64::MIN), 0);
    }
}
