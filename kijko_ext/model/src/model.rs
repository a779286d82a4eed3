use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::{Arc, Mutex, RwLock};
use loom::thread;

use crate::slot::{Loaded, Pin, Reserved, Slot, Word};

impl Word for AtomicU64 {
    fn load(&self) -> u64 {
        AtomicU64::load(self, Ordering::Acquire)
    }
    fn store(&self, value: u64) {
        AtomicU64::store(self, value, Ordering::Release);
    }
    fn compare_exchange(&self, current: u64, new: u64) -> Result<u64, u64> {
        AtomicU64::compare_exchange(self, current, new, Ordering::AcqRel, Ordering::Acquire)
    }
}

const KEY: [u64; 2] = [1, 1];
const OTHER: [u64; 2] = [2, 2];

/// The table of one slot, and the committed ledger of each key.
struct World {
    slot: Slot<AtomicU64>,
    lock: RwLock<()>,
    committed: [Mutex<i64>; 2],
}

impl World {
    fn new(committed: i64) -> Arc<Self> {
        Arc::new(Self {
            slot: Slot::empty(|| AtomicU64::new(0)),
            lock: RwLock::new(()),
            committed: [Mutex::new(committed), Mutex::new(0)],
        })
    }

    fn ledger(&self, key: [u64; 2]) -> &Mutex<i64> {
        &self.committed[usize::from(key == OTHER)]
    }

    /// As slot_table.rs and counter_pins.rs: pin, or claim and load.
    fn acquire(&self, key: [u64; 2]) -> bool {
        {
            let _shared = self.lock.read().unwrap();
            if self.slot.is(key) && !self.slot.is_empty() {
                match self.slot.pin(false) {
                    Pin::Pinned => return true,
                    Pin::Loading => return false,
                    Pin::Stale | Pin::Empty => {}
                }
            }
        }
        {
            let _exclusive = self.lock.write().unwrap();
            if self.slot.is(key) && !self.slot.is_empty() && self.slot.pin(false) == Pin::Pinned {
                return true;
            }
            if !self.slot.claim(key, 0) {
                return false;
            }
        }
        let used = *self.ledger(key).lock().unwrap();
        self.slot.publish(Loaded {
            used,
            thresholds: 0,
            next_expiry: i64::MAX,
        });
        true
    }

    /// One transaction: reserves `amount`, writes its row, and commits or aborts. None when it would have to wait.
    fn transaction(&self, key: [u64; 2], amount: i64, limit: i64, commits: bool) -> Option<bool> {
        if !self.acquire(key) {
            return None;
        }
        let allowed = matches!(self.slot.reserve(amount, limit), Reserved::Yes(_));
        if allowed && commits {
            let mut ledger = self.ledger(key).lock().unwrap();
            *ledger += amount;
            assert!(*ledger <= limit, "overshoot: {} of {limit}", *ledger);
        } else if allowed {
            self.slot.release(amount);
        }
        self.slot.unpin(); // after the row is visible
        Some(allowed)
    }

    /// Without running transactions the counter equals the ledger.
    fn check_at_rest(&self, key: [u64; 2]) {
        assert!(!self.slot.is_pinned());
        if self.slot.is(key) && !self.slot.is_empty() {
            assert_eq!(self.slot.used(), *self.ledger(key).lock().unwrap());
        }
    }
}

/// Runs each closure in a thread of its own, all but the last, which runs here.
fn run(world: &Arc<World>, threads: Vec<fn(&World)>) {
    let handles: Vec<_> = threads
        .into_iter()
        .map(|body| {
            let world = Arc::clone(world);
            thread::spawn(move || body(&world))
        })
        .collect();
    for handle in handles {
        handle.join().unwrap();
    }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    // Two preemptions in one execution find nearly everything in seconds; LOOM_MAX_PREEMPTIONS=3 takes minutes.
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.check(model);
}

#[test]
fn two_uses_of_the_last_unit() {
    check(|| {
        let world = World::new(0);
        run(
            &world,
            vec![|world| _ = world.transaction(KEY, 1, 1, true), |world| {
                _ = world.transaction(KEY, 1, 1, true)
            }],
        );
        world.check_at_rest(KEY);
    });
}

#[test]
fn an_abort_releases_its_reservation_and_no_more() {
    check(|| {
        let world = World::new(1);
        run(
            &world,
            vec![|world| _ = world.transaction(KEY, 1, 2, false), |world| {
                _ = world.transaction(KEY, 1, 2, true)
            }],
        );
        world.check_at_rest(KEY);
    });
}

#[test]
fn eviction_never_takes_a_counter_in_use() {
    check(|| {
        let world = World::new(0);
        run(
            &world,
            vec![
                |world| _ = world.transaction(KEY, 1, 1, true),
                |world| _ = world.transaction(OTHER, 1, 1, true),
                |world| _ = world.transaction(KEY, 1, 1, true),
            ],
        );
        world.check_at_rest(KEY);
        world.check_at_rest(OTHER);
    });
}

#[test]
fn a_stale_counter_is_loaded_again_after_its_last_pin() {
    check(|| {
        let world = World::new(0);
        run(
            &world,
            vec![|world| _ = world.transaction(KEY, 1, 3, true), |world| {
                // A row that came by other means, and then kijko.reload_counters.
                *world.ledger(KEY).lock().unwrap() += 1;
                let _shared = world.lock.read().unwrap();
                world.slot.mark_stale();
            }],
        );
        // The next transaction sees both rows.
        while world.transaction(KEY, 1, 3, true).is_none() {}
        assert_eq!(
            *world.ledger(KEY).lock().unwrap(),
            2 + i64::from(world.slot.used() == 3)
        );
        world.check_at_rest(KEY);
    });
}

#[test]
fn a_failed_load_leaves_an_empty_slot() {
    check(|| {
        let world = World::new(0);
        run(
            &world,
            vec![
                |world| {
                    let claimed = {
                        let _exclusive = world.lock.write().unwrap();
                        world.slot.is_empty() && world.slot.claim(KEY, 0)
                    };
                    if claimed {
                        world.slot.abandon();
                    }
                },
                |world| _ = world.transaction(KEY, 1, 1, true),
            ],
        );
        world.check_at_rest(KEY);
    });
}

#[test]
fn a_pending_release_counts_from_the_commit_on() {
    check(|| {
        // A hold of 1 is all of the limit; settling it at 0 makes room for one other use, and only when it is done.
        let world = World::new(1);
        run(
            &world,
            vec![
                |world| {
                    if world.acquire(KEY) {
                        *world.ledger(KEY).lock().unwrap() -= 1; // commits
                        world.slot.release(1);
                        world.slot.unpin();
                    }
                },
                |world| _ = world.transaction(KEY, 1, 1, true),
            ],
        );
        world.check_at_rest(KEY);
    });
}

#[test]
fn a_threshold_is_recorded_by_one() {
    check(|| {
        let world = World::new(0);
        run(
            &world,
            vec![
                |world| {
                    let mine = world.slot.claim_thresholds(1);
                    if mine != 0 {
                        *world.ledger(OTHER).lock().unwrap() += 1;
                    }
                    world.slot.finish_thresholds(mine, true);
                },
                |world| {
                    let mine = world.slot.claim_thresholds(1);
                    world.slot.finish_thresholds(mine, false); // rolled back
                },
                |world| {
                    let mine = world.slot.claim_thresholds(1);
                    if mine != 0 {
                        *world.ledger(OTHER).lock().unwrap() += 1;
                    }
                    world.slot.finish_thresholds(mine, true);
                },
            ],
        );
        assert!(*world.ledger(OTHER).lock().unwrap() <= 1);
    });
}
