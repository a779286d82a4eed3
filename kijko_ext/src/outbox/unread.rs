//! Of which lanes there may be more to read, and where. Free of Postgres.

use std::collections::BTreeMap;

use super::schedule::Lane;

/// Of further lanes only a look tells.
const MAX_LANES: usize = 1_000;

/// A place in a lane. What is read next lies behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// In Postgres microseconds.
    pub run_at: i64,
    pub seq: i64,
}

impl Position {
    pub fn before(run_at: i64) -> Self {
        Self {
            run_at,
            seq: i64::MIN,
        }
    }
}

#[derive(Default)]
pub struct Unread(BTreeMap<Lane, Position>);

impl Unread {
    /// There may be something behind this place, and behind the one that was known. False when there is no room for the lane.
    pub fn add(&mut self, lane: &Lane, position: Position) -> bool {
        if let Some(known) = self.0.get_mut(lane) {
            *known = position.min(*known);
            return true;
        }
        self.0.len() < MAX_LANES && self.0.insert(lane.clone(), position).is_none()
    }

    pub fn remove(&mut self, lane: &Lane) {
        self.0.remove(lane);
    }

    pub fn retain(&mut self, keep: impl Fn(&Lane) -> bool) {
        self.0.retain(|lane, _| keep(lane));
    }

    pub fn any(&self, of: impl Fn(&Lane) -> bool) -> bool {
        self.0.keys().any(of)
    }

    /// Those that are to be read now.
    pub fn filter(&self, of: impl Fn(&Lane) -> bool) -> Vec<(Lane, Position)> {
        let lanes = self.0.iter().filter(|(lane, _)| of(lane));
        lanes
            .map(|(lane, position)| (lane.clone(), *position))
            .collect()
    }
}

#[cfg(test)]
mod unit {
    use std::cmp::Reverse;

    use super::*;

    fn lane(n: usize) -> Lane {
        Lane {
            priority: Reverse(0),
            origin: format!("{n}").into(),
            org: [0; 16],
        }
    }

    #[test]
    fn the_first_place_of_a_lane_counts() {
        let mut unread = Unread::default();
        let at = |run_at, seq| Position { run_at, seq };
        for position in [at(5, 3), at(7, 1), at(5, 2), at(5, 9)] {
            assert!(unread.add(&lane(1), position));
        }
        assert_eq!(unread.filter(|_| true), [(lane(1), at(5, 2))]);
        assert!(Position::before(5) < at(5, 0) && at(4, 9) < Position::before(5));
        unread.remove(&lane(1));
        assert!(unread.add(&lane(1), at(8, 8)));
        assert_eq!(unread.filter(|_| true), [(lane(1), at(8, 8))]);
    }

    #[test]
    fn there_is_room_for_so_many_lanes() {
        let mut unread = Unread::default();
        for n in 0..MAX_LANES {
            assert!(unread.add(&lane(n), Position::before(n as i64)));
        }
        assert!(!unread.add(&lane(MAX_LANES), Position::before(0)));
        assert!(unread.add(&lane(0), Position::before(0)));
        unread.retain(|kept| *kept != lane(7));
        assert!(!unread.any(|there| *there == lane(7)));
        assert!(unread.add(&lane(MAX_LANES), Position::before(0)));
    }
}
