//! Which requests are sent next. Free of Postgres; times are milliseconds of any clock that does not go back.
//!
//! A lane is an origin, an organization and a priority. Lanes of a higher priority come first; lanes of the same priority take
//! turns. What is sent at once has limits in all, for each origin and for each organization; a lane has half of its origin's, so
//! that it alone does not fill it. When attempts of an organization at an origin fail, its further ones go there one at a time,
//! with pauses that grow: others' are not touched.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;

use super::outcome::Id;

/// Failures in a row before the first pause.
const FAILURES_BEFORE_PAUSE: u32 = 3;
const FIRST_PAUSE: u64 = 1_000;
const MAX_PAUSE: u64 = 60_000;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub total: usize,
    pub origin: usize,
    pub org: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    pub priority: Reverse<i32>,
    pub origin: Rc<str>,
    pub org: Id,
}

#[derive(Default)]
struct Health {
    failures: u32,
    paused_until: u64,
}

#[derive(Default)]
pub struct Schedule {
    /// Due requests that are known, in order. A lane without any is not here.
    backlog: BTreeMap<Lane, VecDeque<Id>>,
    in_flight: HashMap<Id, Lane>,
    by_origin: HashMap<Rc<str>, usize>,
    by_org: HashMap<Id, usize>,
    by_target: HashMap<(Rc<str>, Id), usize>,
    /// Where something has failed lately.
    health: HashMap<(Rc<str>, Id), Health>,
    /// The lane that was served last.
    last: Option<Lane>,
}

impl Schedule {
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub fn has_room(&self, limits: Limits) -> bool {
        self.in_flight.len() < limits.total
    }

    /// Whether requests of this lane should be looked for: none is known, and one could be sent.
    pub fn wants(&self, lane: &Lane, limits: Limits, now: u64) -> bool {
        !self.backlog.contains_key(lane) && self.may_send(lane, limits, now)
    }

    /// How many of this lane are being sent. A look-up finds them again.
    pub fn in_flight_of(&self, lane: &Lane) -> usize {
        let target = (Rc::clone(&lane.origin), lane.org);
        self.by_target.get(&target).copied().unwrap_or_default()
    }

    pub fn add(&mut self, lane: Lane, due: impl Iterator<Item = Id>) {
        let new: VecDeque<_> = due.filter(|id| !self.in_flight.contains_key(id)).collect();
        if !new.is_empty() {
            self.backlog.insert(lane, new);
        }
    }

    /// The next requests. They count as being sent until `ended`.
    pub fn choose(&mut self, limits: Limits, now: u64) -> Vec<Id> {
        let mut chosen = Vec::new();
        let mut priority = None;
        while self.has_room(limits) {
            let next = match priority {
                None => self.backlog.keys().next(),
                Some(above) => {
                    let mut lanes = self.backlog.keys();
                    lanes.find(|lane| lane.priority > above)
                }
            };
            let Some(next) = next.map(|lane| lane.priority) else {
                break;
            };
            self.choose_of(next, limits, now, &mut chosen);
            priority = Some(next);
        }
        chosen
    }

    /// One of each lane of a priority in turn, until there is no more or no room.
    fn choose_of(
        &mut self,
        priority: Reverse<i32>,
        limits: Limits,
        now: u64,
        chosen: &mut Vec<Id>,
    ) {
        let of_priority = self.backlog.keys().filter(|lane| lane.priority == priority);
        let mut lanes: VecDeque<Lane> = of_priority.cloned().collect();
        if let Some(last) = &self.last {
            let after = lanes
                .iter()
                .position(|lane| lane > last)
                .unwrap_or_default();
            lanes.rotate_left(after);
        }
        while let Some(lane) = lanes.pop_front() {
            if !self.has_room(limits) {
                return;
            }
            if !self.may_send(&lane, limits, now) {
                continue;
            }
            let Some(requests) = self.backlog.get_mut(&lane) else {
                continue;
            };
            if let Some(id) = requests.pop_front() {
                self.count(&lane, id);
                chosen.push(id);
                self.last = Some(lane.clone());
            }
            if self.backlog.get(&lane).is_some_and(VecDeque::is_empty) {
                self.backlog.remove(&lane);
            } else {
                lanes.push_back(lane);
            }
        }
    }

    /// Whether attempts of an organization at an origin have failed so often that nothing goes there for a while.
    pub fn is_paused(&self, lane: &Lane, now: u64) -> bool {
        let target = (Rc::clone(&lane.origin), lane.org);
        let health = self.health.get(&target);
        health.is_some_and(|health| now < health.paused_until)
    }

    fn may_send(&self, lane: &Lane, limits: Limits, now: u64) -> bool {
        let target = (Rc::clone(&lane.origin), lane.org);
        let health = self.health.get(&target);
        if health.is_some_and(|health| now < health.paused_until) {
            return false;
        }
        let share = match health {
            Some(_) => 1,
            None => limits.origin.div_ceil(2),
        };
        let used = |count: Option<&usize>| count.copied().unwrap_or_default();
        used(self.by_target.get(&target)) < share
            && used(self.by_origin.get(&lane.origin)) < limits.origin
            && used(self.by_org.get(&lane.org)) < limits.org
    }

    fn count(&mut self, lane: &Lane, id: Id) {
        let target = (Rc::clone(&lane.origin), lane.org);
        *self.by_target.entry(target).or_default() += 1;
        *self.by_origin.entry(Rc::clone(&lane.origin)).or_default() += 1;
        *self.by_org.entry(lane.org).or_default() += 1;
        self.in_flight.insert(id, lane.clone());
    }

    /// The attempt has ended. None: it was not made, and says nothing about the receiver.
    pub fn ended(&mut self, id: &Id, healthy: Option<bool>, now: u64) {
        let Some(lane) = self.in_flight.remove(id) else {
            return;
        };
        let target = (Rc::clone(&lane.origin), lane.org);
        subtract(&mut self.by_target, &target);
        subtract(&mut self.by_origin, &lane.origin);
        subtract(&mut self.by_org, &lane.org);
        match healthy {
            Some(true) => _ = self.health.remove(&target),
            Some(false) => self.health.entry(target).or_default().fail(now),
            None => {}
        }
    }

    /// Forgets what failed where nothing is waiting any more.
    pub fn retain(&mut self, waits: impl Fn(&str, &Id) -> bool) {
        self.health.retain(|(origin, org), _| waits(origin, org));
    }

    /// When the first of the pauses ends that requests wait for.
    pub fn next_at(&self, now: u64) -> Option<u64> {
        let waiting = self.backlog.keys();
        let pauses =
            waiting.filter_map(|lane| self.health.get(&(Rc::clone(&lane.origin), lane.org)));
        let ends = pauses
            .map(|health| health.paused_until)
            .filter(|end| *end > now);
        ends.min()
    }
}

impl Health {
    fn fail(&mut self, now: u64) {
        self.failures += 1;
        if self.failures >= FAILURES_BEFORE_PAUSE {
            let doublings = (self.failures - FAILURES_BEFORE_PAUSE).min(10);
            self.paused_until = now + (FIRST_PAUSE << doublings).min(MAX_PAUSE);
        }
    }
}

fn subtract<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    const LIMITS: Limits = Limits {
        total: 20,
        origin: 8,
        org: 10,
    };

    fn lane(origin: &str, org: u8, priority: i32) -> Lane {
        Lane {
            priority: Reverse(priority),
            origin: origin.into(),
            org: [org; 16],
        }
    }

    /// Requests of a lane: its origin's first letter, its organization, its priority, and a number.
    fn add(schedule: &mut Schedule, lane: &Lane, count: u8) {
        let id = |n| {
            let mut id = lane.org;
            (id[0], id[1], id[2]) = (lane.origin.as_bytes()[0], lane.priority.0 as u8, n);
            id
        };
        schedule.add(lane.clone(), (0..count).map(id));
    }

    fn count(chosen: &[Id], of: impl Fn(&Id) -> bool) -> usize {
        chosen.iter().filter(|id| of(id)).count()
    }

    #[test]
    fn lanes_take_turns() {
        let mut schedule = Schedule::default();
        add(&mut schedule, &lane("a", 1, 0), 100);
        add(&mut schedule, &lane("b", 2, 0), 3);
        let chosen = schedule.choose(LIMITS, 0);
        assert_eq!(
            chosen.iter().take(6).map(|id| id[0]).collect::<Vec<_>>(),
            *b"ababab"
        );
        assert_eq!(
            count(&chosen, |id| id[0] == b'a'),
            4,
            "half of its origin's share"
        );
    }

    #[test]
    fn a_higher_priority_comes_first() {
        let mut schedule = Schedule::default();
        add(&mut schedule, &lane("a", 1, 0), 4);
        add(&mut schedule, &lane("a", 2, 5), 4);
        let chosen = schedule.choose(Limits { total: 5, ..LIMITS }, 0);
        assert_eq!(
            chosen.iter().map(|id| id[1]).collect::<Vec<_>>(),
            [5, 5, 5, 5, 0]
        );
    }

    #[test]
    fn an_origin_and_an_organization_have_their_shares() {
        let mut schedule = Schedule::default();
        for org in 1..=3 {
            add(&mut schedule, &lane("a", org, 0), 100);
        }
        for origin in ["b", "c", "d"] {
            add(&mut schedule, &lane(origin, 9, 0), 100);
        }
        let chosen = schedule.choose(
            Limits {
                total: 100,
                ..LIMITS
            },
            0,
        );
        assert_eq!(count(&chosen, |id| id[0] == b'a'), 8);
        assert_eq!(count(&chosen, |id| id[15] == 9), 10);
    }

    #[test]
    fn what_is_being_sent_is_not_sent_twice() {
        let mut schedule = Schedule::default();
        let only = lane("a", 1, 0);
        add(&mut schedule, &only, 2);
        let chosen = schedule.choose(LIMITS, 0);
        assert_eq!(chosen.len(), 2);
        assert_eq!(schedule.in_flight_of(&only), 2);
        add(&mut schedule, &only, 2);
        assert!(schedule.choose(LIMITS, 0).is_empty());
        schedule.ended(&chosen[0], Some(true), 0);
        schedule.ended(&chosen[0], Some(true), 0);
        assert_eq!(schedule.in_flight(), 1);
    }

    #[test]
    fn failures_slow_their_own_lane_only() {
        let mut schedule = Schedule::default();
        let (failing, healthy) = (lane("a", 1, 0), lane("a", 2, 0));
        add(&mut schedule, &failing, 100);
        let mut now = 0;
        for id in schedule.choose(LIMITS, now) {
            schedule.ended(&id, Some(false), now);
        }
        assert!(!schedule.wants(&failing, LIMITS, now));
        assert!(schedule.choose(LIMITS, now).is_empty());
        add(&mut schedule, &healthy, 4);
        assert_eq!(schedule.choose(LIMITS, now).len(), 4);
        now = schedule.next_at(now).unwrap();
        let one = schedule.choose(LIMITS, now);
        assert_eq!(one.len(), 1, "one at a time");
        schedule.ended(&one[0], Some(true), now);
        assert_eq!(schedule.choose(LIMITS, now).len(), 4, "all again");
    }

    #[test]
    fn pauses_end() {
        let mut health = Health::default();
        for _ in 0..100 {
            health.fail(0);
        }
        assert_eq!(health.paused_until, MAX_PAUSE);
    }

    #[test]
    fn an_attempt_that_was_not_made_changes_nothing() {
        let mut schedule = Schedule::default();
        add(&mut schedule, &lane("a", 1, 0), 1);
        let chosen = schedule.choose(LIMITS, 0);
        schedule.ended(&chosen[0], None, 0);
        assert!(
            schedule.health.is_empty()
                && schedule.by_origin.is_empty()
                && schedule.by_org.is_empty()
        );
    }
}
