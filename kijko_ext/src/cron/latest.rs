//! When an expression fired last: the way of schedule.rs backwards.

use jiff::civil::DateTime;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

use super::schedule::{Schedule, wall_clock};

/// No clock repeats more than a day: Kwajalein and Manila crossed the date line.
const LONGEST_REPEAT_HOURS: i64 = 25;

impl Schedule {
    /// The last time not after `until`; none when it lies before the calendar.
    pub fn latest(&self, until: Timestamp) -> Option<Timestamp> {
        if self.every_hour {
            self.latest_elapsed(until)
        } else {
            self.latest_on_wall(until)
        }
    }

    /// Goes back from one change of the clock to the one before, as next_elapsed() goes forward.
    fn latest_elapsed(&self, until: Timestamp) -> Option<Timestamp> {
        let mut offset = self.zone.to_offset(until);
        let mut slot = self.former_slot(offset.to_datetime(until), true)?;
        for change in self.changes_until(until) {
            let instant = offset.to_timestamp(slot).ok()?;
            if instant >= change {
                return Some(instant);
            }
            // The times before the change, by the offset that it ended.
            offset = self.offset_before(change);
            slot = self.former_slot(offset.to_datetime(change), false)?;
        }
        offset.to_timestamp(slot).ok()
    }

    /// Goes back from slot to slot on the wall clock. It begins at the latest time that the clock has shown: a clock that
    /// was set back has shown later times, whose slots have fired.
    fn latest_on_wall(&self, until: Timestamp) -> Option<Timestamp> {
        let shown = wall_clock(&self.zone, until);
        let before_change = self
            .changes_until(until)
            .take_while(|change| until.duration_since(*change).as_hours() < LONGEST_REPEAT_HOURS)
            .map(|change| self.offset_before(change).to_datetime(change))
            .max()
            .filter(|ended| *ended > shown);
        let mut slot = match before_change {
            Some(ended) => self.former_slot(ended, false)?,
            None => self.former_slot(shown, true)?,
        };
        loop {
            let instant = self.instant(slot)?;
            if instant <= until {
                return Some(instant);
            }
            slot = self.former_slot(slot, false)?;
        }
    }

    /// The changes of the clock up to a time, the last one first.
    fn changes_until(&self, until: Timestamp) -> impl Iterator<Item = Timestamp> {
        let after = until
            .checked_add(SignedDuration::from_nanos(1))
            .unwrap_or(until);
        self.zone.preceding(after).map(|change| change.timestamp())
    }

    fn offset_before(&self, change: Timestamp) -> Offset {
        let before = change
            .checked_sub(SignedDuration::from_nanos(1))
            .unwrap_or(change);
        self.zone.to_offset(before)
    }

    fn former_slot(&self, wall: DateTime, inclusive: bool) -> Option<DateTime> {
        // As in slot(): a minute that has begun lies behind.
        let whole = wall.with().subsec_nanosecond(0).build().ok()?;
        self.cron
            .find_previous_occurrence(&whole, inclusive || whole != wall)
            .ok()
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    /// Whatever the expression, the zone and the time: the latest time is the one that walking forward meets last.
    #[test]
    fn the_latest_time_is_the_last_that_walking_meets() {
        let minutes = SignedDuration::from_mins;
        for (zone, changes) in [
            ("UTC", ["2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z"]),
            (
                "Europe/Amsterdam",
                ["2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z"],
            ),
            (
                "Australia/Lord_Howe",
                ["2026-04-04T15:00:00Z", "2026-10-03T15:30:00Z"],
            ),
            (
                "Asia/Beirut",
                ["2026-03-28T22:00:00Z", "2026-10-24T21:00:00Z"],
            ),
            (
                "Pacific/Apia",
                ["2011-12-30T10:00:00Z", "2011-09-24T14:00:00Z"],
            ),
        ] {
            for expression in [
                "* * * * *",
                "30 * * * *",
                "7,37 2 * * *",
                "*/15 1-3 * * *",
                "0 0 * * *",
                "59 23 * * *",
                "0 */2 * * *",
                "15 2 * * sun",
                "0 12 30 12 *",
            ] {
                let schedule = Schedule::new(expression, zone).unwrap();
                for change in changes {
                    let change: Timestamp = change.parse().unwrap();
                    let from = change - minutes(30 * 60);
                    let mut last = schedule.latest(from).unwrap();
                    assert!(schedule.next(last).unwrap() > from, "{zone} {expression}");
                    // Each minute around the change, and a few on the days about it.
                    let before = (0..28 * 60).step_by(97);
                    let after = (33 * 60..60 * 60).step_by(97);
                    for minute in before.chain(28 * 60..33 * 60).chain(after) {
                        let until = from + minutes(minute);
                        while let Some(next) = schedule.next(last).filter(|next| *next <= until) {
                            last = next;
                        }
                        let label = format!("{expression} {zone} {until}");
                        assert_eq!(schedule.latest(until), Some(last), "{label}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_latest_time_includes_its_own_moment() {
        let latest = |expression: &str, until: &str| {
            let schedule = Schedule::new(expression, "UTC").unwrap();
            schedule
                .latest(until.parse().unwrap())
                .map(|time| time.to_string())
        };
        let noon = Some("2026-01-01T12:00:00Z".to_owned());
        assert_eq!(latest("0 12 * * *", "2026-01-01T12:00:00Z"), noon);
        assert_eq!(latest("0 12 * * *", "2026-01-01T12:00:00.000001Z"), noon);
        assert_eq!(latest("0 12 * * *", "2026-01-02T11:59:59.999999Z"), noon);
        let leap = Some("2096-02-29T00:00:00Z".to_owned());
        assert_eq!(latest("0 0 29 2 *", "2104-02-28T00:00:00Z"), leap);
        assert_eq!(
            latest("@yearly", "0001-01-01T00:00:00Z").as_deref(),
            Some("0001-01-01T00:00:00Z")
        );
        assert_eq!(latest("@yearly", "-000005-06-01T00:00:00Z"), None);
    }
}
