//! Finds out what could be sent.
//!
//! 1. The commit of a request says its id (`wakeup.rs`). Its lane is then read from this request on.
//! 2. A lane of which there was more than one reading takes is read on where that ended, when nothing of it is left.
//! 3. A look goes from lane to lane through the index of pending requests. It finds all that the other ways do not tell of: what
//!    becomes due, transactions with many requests, and what an error or a crash has made forgotten.
//!
//! A look passes the index entries of all requests that have ended since the last vacuum. With a million requests queued vacuum
//! comes rarely, and these may be a hundred thousand. So what is sent at once must not wait for looks.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::outcome::Id;
use super::schedule::{Lane, Limits, Schedule};
use super::store::{self, Due};
use super::unread::{Position, Unread};
use super::wakeup;
use crate::clock;

/// Looking for lanes takes at most this part of the time, however many there are.
const SHARE_OF_LOOKING: u32 = 10;
const MIN_BETWEEN_LOOKS: Duration = Duration::from_millis(2);
/// A transaction that was prepared commits without a word.
const MAX_BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// Due requests that are read ahead for a lane: ids only.
const READ_AHEAD: usize = 256;
/// New requests that wait until there is room. Of more than that, a look tells.
const MAX_NEW: usize = 1_024;

pub struct Reader {
    new: Vec<Id>,
    unread: Unread,
    look_wanted: bool,
    last_look: Instant,
    /// No look before.
    next_look: Instant,
    /// When the first request is due that is pending now.
    next_due: Option<Instant>,
}

impl Reader {
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            new: Vec::new(),
            unread: Unread::default(),
            look_wanted: true,
            last_look: now,
            next_look: now,
            next_due: None,
        }
    }

    /// Takes what commits have told. Before the transaction that reads: its snapshot must have all of it.
    pub fn listen(&mut self) {
        let (stored, look) = wakeup::take_stored();
        self.look_wanted |= look;
        self.add(stored);
    }

    /// Requests that may be pending and due.
    pub fn add(&mut self, ids: Vec<Id>) {
        self.new.extend(ids);
        if self.new.len() > MAX_NEW {
            self.new.clear();
            self.look_wanted = true;
        }
    }

    /// What is known may be wrong.
    pub fn want_look(&mut self) {
        self.look_wanted = true;
    }

    /// A request will be due.
    pub fn is_due_in(&mut self, wait: Duration) {
        let due = Instant::now() + wait;
        self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
    }

    /// When to read again, if nothing happens before.
    pub fn next(&self, schedule: &Schedule, limits: Limits, now: u64) -> Instant {
        if self.unread.any(|lane| schedule.wants(lane, limits, now)) {
            return Instant::now();
        }
        let regular = self.last_look + MAX_BETWEEN_LOOKS;
        let due = self.next_due.map_or(regular, |due| due.min(regular));
        let wanted = if self.look_wanted {
            self.next_look
        } else {
            due
        };
        wanted.max(self.next_look)
    }

    /// In a transaction. The schedule has room.
    pub fn read(&mut self, schedule: &mut Schedule, limits: Limits, now: u64) {
        let present = clock::real_micros();
        if !self.new.is_empty() {
            let new = std::mem::take(&mut self.new);
            for due in store::due_of(&new) {
                self.notice(&due, schedule, present, now);
            }
        }
        self.unread.retain(|lane| !schedule.is_paused(lane, now));
        for (lane, position) in self.unread.filter(|lane| schedule.wants(lane, limits, now)) {
            self.read_lane(&lane, position, schedule, present);
        }
        let instant = Instant::now();
        let due = self.look_wanted
            || instant >= self.last_look + MAX_BETWEEN_LOOKS
            || self.next_due.is_some_and(|due| instant >= due);
        if due && instant >= self.next_look {
            self.look(schedule, limits, now);
        }
    }

    /// There is a request in a lane. A lane that has a pause is looked at afterwards.
    fn notice(&mut self, due: &Due, schedule: &Schedule, present: i64, now: u64) {
        if due.position.run_at > present {
            let wait = due.position.run_at.abs_diff(present);
            self.is_due_in(Duration::from_micros(wait));
        } else if !schedule.is_paused(&due.lane, now) && !self.unread.add(&due.lane, due.position) {
            self.look_wanted = true;
        }
    }

    /// Reads ahead for each lane that has something due and nothing known.
    fn look(&mut self, schedule: &mut Schedule, limits: Limits, now: u64) {
        let (start, present) = (Instant::now(), clock::real_micros());
        wakeup::counts().looks.fetch_add(1, Ordering::Relaxed);
        (self.look_wanted, self.next_due) = (false, None);
        let lanes = store::lanes();
        for due in &lanes {
            if due.position.run_at <= present && schedule.wants(&due.lane, limits, now) {
                self.read_lane(&due.lane, due.position, schedule, present);
            } else {
                self.notice(due, schedule, present, now);
            }
        }
        let waits: HashSet<_> = lanes
            .iter()
            .map(|due| (&*due.lane.origin, due.lane.org))
            .collect();
        schedule.retain(|origin, org| waits.contains(&(origin, *org)));
        self.last_look = Instant::now();
        let rest = (start.elapsed() * SHARE_OF_LOOKING).max(MIN_BETWEEN_LOOKS);
        self.next_look = self.last_look + rest;
    }

    fn read_lane(
        &mut self,
        lane: &Lane,
        position: Position,
        schedule: &mut Schedule,
        present: i64,
    ) {
        let limit = READ_AHEAD + schedule.in_flight_of(lane);
        let due = store::due(lane, position, present, limit);
        self.unread.remove(lane);
        if let Some((_, last)) = due.last()
            && due.len() == limit
            && !self.unread.add(lane, *last)
        {
            self.look_wanted = true;
        }
        schedule.add(lane.clone(), due.into_iter().map(|(id, _)| id));
    }
}
