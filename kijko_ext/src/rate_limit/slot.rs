//! A slot of the table, and which one a key takes from another.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::shmem::set_associative::{AtomicKey, Key, KeyedSlot};

/// 32 bytes, two to a cache line. A zero key marks an empty slot; no real key hashes to it (limiter.rs). Everything is read and
/// written under the lock of its partition, exclusively to write, so no ordering is needed.
#[repr(C)]
pub struct Slot {
    key: AtomicKey,
    /// The state of the key (gcra.rs).
    tat: AtomicU64,
    /// When the key was last used.
    used_at: AtomicU64,
}

/// How a key gets a slot. The order is that of the choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SlotOrigin {
    /// Empty.
    Fresh,
    /// Taken from a key with nothing to pay back: forgetting it changes no answer.
    Recycled,
    /// Taken from the least recently used key, although it had debts: that key gets more than its limit.
    Evicted,
}

impl KeyedSlot for Slot {
    type Key = Key;

    fn holds(&self, key: Key) -> bool {
        self.key.is(key)
    }
}

impl Slot {
    pub fn tat(&self) -> u64 {
        self.tat.load(Ordering::Relaxed)
    }

    pub fn set(&self, tat: u64, now: u64) {
        self.tat.store(tat, Ordering::Relaxed);
        self.touch(now);
    }

    pub fn touch(&self, now: u64) {
        self.used_at.store(now, Ordering::Relaxed);
    }

    /// For `Table::claim`.
    pub fn rank(&self, now: u64) -> (SlotOrigin, u64) {
        if self.holds([0; 2]) {
            (SlotOrigin::Fresh, 0)
        } else if self.tat() <= now {
            (SlotOrigin::Recycled, 0)
        } else {
            (SlotOrigin::Evicted, self.used_at.load(Ordering::Relaxed))
        }
    }

    /// Makes it the slot of a key that was never seen.
    pub fn give(&self, key: Key) {
        self.key.store(key);
        self.tat.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod unit {
    use super::*;
    use crate::shmem::set_associative::victim;

    fn slot(key: u64, tat: u64, used_at: u64) -> Slot {
        let slot = Slot {
            key: AtomicKey::default(),
            tat: AtomicU64::new(0),
            used_at: AtomicU64::new(0),
        };
        if key != 0 {
            slot.give([key, key]);
            slot.set(tat, used_at);
        }
        slot
    }

    fn taken(slots: &[Slot], now: u64) -> (SlotOrigin, usize) {
        let ((origin, _), slot) = victim(slots.iter(), |slot| Some(slot.rank(now))).unwrap();
        let at = slots.iter().position(|other| std::ptr::eq(other, slot));
        (origin, at.unwrap())
    }

    #[test]
    fn an_empty_slot_goes_first_then_a_key_without_debts_then_the_oldest() {
        let mut slots = [slot(1, 100, 9), slot(2, 100, 5), slot(3, 100, 7)];
        assert_eq!(taken(&slots, 10), (SlotOrigin::Evicted, 1));
        slots[2].set(10, 9);
        assert_eq!(taken(&slots, 10), (SlotOrigin::Recycled, 2));
        slots[0] = slot(0, 0, 0);
        assert_eq!(taken(&slots, 10), (SlotOrigin::Fresh, 0));
    }

    #[test]
    fn a_new_key_has_no_debts() {
        let slot = slot(1, 100, 9);
        slot.give([2, 2]);
        assert_eq!(slot.tat(), 0);
        assert!(slot.holds([2, 2]) && !slot.holds([1, 1]));
    }
}
