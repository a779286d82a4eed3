//! One set of the table. A key may take any of its slots. Pure, so that the choice of a victim can be tested.

use crate::shmem::set_associative::WAYS;

/// 32 bytes, two to a cache line. A zero key marks an empty slot; no real key hashes to it (limiter.rs).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    pub key: [u64; 2],
    /// The state of the key (gcra.rs).
    pub tat: u64,
    /// When the key was last used.
    pub used_at: u64,
}

pub type Set = [Slot; WAYS];

/// How a key got its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotOrigin {
    Found,
    /// Into an empty slot.
    Fresh,
    /// Taken from a key with nothing to pay back: forgetting it changes no answer.
    Recycled,
    /// Taken from the least recently used key, although it had debts: that key gets more than its limit.
    Evicted,
}

/// The state of `key`; 0 for one that has no slot.
pub fn state(set: &Set, key: [u64; 2]) -> u64 {
    let slot = set.iter().find(|slot| slot.key == key);
    slot.map_or(0, |slot| slot.tat)
}

/// The slot of `key`, if it has one.
pub fn find(set: &mut Set, key: [u64; 2]) -> Option<&mut Slot> {
    set.iter_mut().find(|slot| slot.key == key)
}

/// The slot of `key`, if need be taken from another key. Its `tat` is 0 unless it was found.
pub fn claim(set: &mut Set, key: [u64; 2], now: u64) -> (&mut Slot, SlotOrigin) {
    let mut victim = 0;
    let mut origin = SlotOrigin::Evicted;
    for (way, slot) in set.iter().enumerate() {
        if slot.key == key {
            return (&mut set[way], SlotOrigin::Found);
        }
        let rank = if slot.key == [0; 2] {
            SlotOrigin::Fresh
        } else if slot.tat <= now {
            SlotOrigin::Recycled
        } else {
            SlotOrigin::Evicted
        };
        let better = match (rank, origin) {
            (SlotOrigin::Fresh, SlotOrigin::Fresh) => false,
            (SlotOrigin::Fresh, _) => true,
            (SlotOrigin::Recycled, SlotOrigin::Evicted) => true,
            (SlotOrigin::Recycled, _) => false,
            _ => origin == SlotOrigin::Evicted && slot.used_at < set[victim].used_at,
        };
        if better {
            victim = way;
            origin = rank;
        }
    }
    set[victim] = Slot {
        key,
        tat: 0,
        used_at: now,
    };
    (&mut set[victim], origin)
}

#[cfg(test)]
mod unit {
    use super::*;

    fn fill(set: &mut Set, now: u64) {
        for way in 0..WAYS as u64 {
            let (slot, origin) = claim(set, [1, way], now + way);
            slot.tat = 1_000;
            assert_eq!(origin, SlotOrigin::Fresh);
        }
    }

    #[test]
    fn a_key_keeps_its_slot() {
        let mut set = Set::default();
        fill(&mut set, 1);
        let (slot, origin) = claim(&mut set, [1, 3], 50);
        assert_eq!((origin, slot.tat), (SlotOrigin::Found, 1_000));
        assert_eq!(find(&mut set, [1, 3]).map(|slot| slot.tat), Some(1_000));
        assert_eq!(find(&mut set, [3, 1]), None);
    }

    #[test]
    fn a_paid_back_key_goes_before_one_with_debts() {
        let mut set = Set::default();
        fill(&mut set, 1);
        set[5].tat = 20;
        let (slot, origin) = claim(&mut set, [2, 2], 20);
        assert_eq!((origin, slot.tat), (SlotOrigin::Recycled, 0));
        assert_eq!(set[5].key, [2, 2]);
    }

    #[test]
    fn otherwise_the_least_recently_used_goes() {
        let mut set = Set::default();
        fill(&mut set, 1);
        set[0].used_at = 90;
        assert_eq!(claim(&mut set, [2, 2], 100).1, SlotOrigin::Evicted);
        assert_eq!(set[1].key, [2, 2]);
        assert!(set.iter().any(|slot| slot.key == [1, 0]));
    }

    #[test]
    fn an_empty_slot_goes_first() {
        let mut set = Set::default();
        fill(&mut set, 1);
        set[2] = Slot::default();
        set[1].tat = 0;
        assert_eq!(claim(&mut set, [2, 2], 100).1, SlotOrigin::Fresh);
        assert_eq!(set[2].key, [2, 2]);
    }
}
