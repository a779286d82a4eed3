//! When an expression fires. croner walks the wall clock; the way from the wall clock to instants is here, because its
//! own rule for clock changes depends on the shape of the expression in ways that a sentence cannot describe. Ours:
//!
//! - An expression whose hour is `*` follows elapsed time: it fires whenever the clock shows a matching time, in both
//!   passes of a repeated hour, and not for times that a clock change skips.
//! - Any other expression follows the wall clock: each matching time fires once. A time that the clock skips fires at
//!   the end of the gap, and all times of one gap together fire once. A time that comes twice fires the first time.
//!
//! Zones come from the tz database compiled into the library (jiff's), so that every server with the same build agrees.

use std::sync::OnceLock;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use thiserror::Error;

use super::grammar::{self, GrammarError};

#[derive(Debug, Error)]
pub enum ScheduleError {
    #[error(transparent)]
    Grammar(#[from] GrammarError),
    /// Cannot happen for what the grammar lets through; kept apart from it so that a test would notice.
    #[error("{0}")]
    Engine(String),
    #[error("there is no time zone {0:?}; use an IANA name such as Europe/Amsterdam")]
    Zone(String),
}

impl ScheduleError {
    /// The error's code in `kijko.error_codes`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Grammar(_) | Self::Engine(_) => "invalid_cron",
            Self::Zone(_) => "invalid_timezone",
        }
    }
}

pub struct Schedule {
    pub(super) cron: Cron,
    pub(super) every_hour: bool,
    pub(super) zone: TimeZone,
}

impl Schedule {
    pub fn new(expression: &str, zone: &str) -> Result<Self, ScheduleError> {
        let expression = grammar::parse(expression)?;
        let cron = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build()
            .parse(&expression.pattern)
            .map_err(|error| ScheduleError::Engine(error.to_string()))?;
        Ok(Self {
            cron,
            every_hour: expression.every_hour,
            zone: find_zone(zone)?,
        })
    }

    /// The first time strictly after `after`; none when it lies beyond the calendar.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        if self.every_hour {
            self.next_elapsed(after)
        } else {
            self.next_on_wall(after)
        }
    }

    /// Goes from one change of the clock to the next. Between two of them wall clock and time move alike.
    fn next_elapsed(&self, after: Timestamp) -> Option<Timestamp> {
        let mut slot = self.slot(wall_clock(&self.zone, after), false)?;
        let mut from = after;
        loop {
            let offset = self.zone.to_offset(from);
            let instant = offset.to_timestamp(slot).ok()?;
            let Some(change) = self.zone.following(from).next() else {
                return Some(instant);
            };
            if instant < change.timestamp() {
                return Some(instant);
            }
            from = change.timestamp();
            slot = self.slot(wall_clock(&self.zone, from), true)?;
        }
    }

    /// Goes from slot to slot on the wall clock. Their instants never run backwards, so the first later one is next.
    fn next_on_wall(&self, after: Timestamp) -> Option<Timestamp> {
        let mut wall = wall_clock(&self.zone, after);
        loop {
            wall = self.slot(wall, false)?;
            let instant = self.instant(wall)?;
            if instant > after {
                return Some(instant);
            }
        }
    }

    fn slot(&self, wall: DateTime, inclusive: bool) -> Option<DateTime> {
        // A matching minute that has begun lies behind, even if its seconds are cut off.
        let whole = wall.with().subsec_nanosecond(0).build().ok()?;
        self.cron
            .find_next_occurrence(&whole, inclusive && whole == wall)
            .ok()
    }

    pub(super) fn instant(&self, wall: DateTime) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { offset }
            | AmbiguousOffset::Fold { before: offset, .. } => offset.to_timestamp(wall).ok(),
            AmbiguousOffset::Gap { after, .. } => {
                // Read with the later offset, a skipped time comes before the change that skips it.
                let early = after.to_timestamp(wall).ok()?;
                let change = self
                    .zone
                    .following(early)
                    .find(|change| change.offset() == after)?;
                Some(change.timestamp())
            }
        }
    }
}

pub(super) fn wall_clock(zone: &TimeZone, instant: Timestamp) -> DateTime {
    zone.to_offset(instant).to_datetime(instant)
}

fn find_zone(name: &str) -> Result<TimeZone, ScheduleError> {
    static ZONES: OnceLock<TimeZoneDatabase> = OnceLock::new();
    ZONES
        .get_or_init(TimeZoneDatabase::bundled)
        .get(name)
        .map_err(|_| ScheduleError::Zone(name.to_owned()))
}

#[cfg(test)]
mod unit {
    use super::*;

    fn upcoming(expression: &str, zone: &str, after: &str, n: usize) -> Vec<String> {
        let schedule = Schedule::new(expression, zone).unwrap();
        let mut last: Timestamp = after.parse().unwrap();
        (0..n)
            .map_while(|_| {
                last = schedule.next(last)?;
                Some(last.strftime("%m-%dT%H:%M").to_string())
            })
            .collect()
    }

    /// Amsterdam goes from 02:00 to 03:00 at 01:00 UTC on 2026-03-29, and from 03:00 to 02:00 at 01:00 UTC on 10-25.
    const SPRING: &str = "2026-03-28T22:59:59Z";
    const AUTUMN: &str = "2026-10-24T21:59:59Z";

    fn amsterdam(expression: &str, after: &str, n: usize) -> Vec<String> {
        upcoming(expression, "Europe/Amsterdam", after, n)
    }

    #[test]
    fn the_next_time_is_strictly_later() {
        assert_eq!(
            upcoming("0 12 * * *", "UTC", "2026-01-01T12:00:00Z", 1),
            ["01-02T12:00"]
        );
        assert_eq!(
            upcoming("0 12 * * *", "UTC", "2026-01-01T12:00:00.5Z", 1),
            ["01-02T12:00"]
        );
        assert_eq!(
            upcoming("0 12 * * *", "UTC", "2026-01-01T11:59:59.999999Z", 1),
            ["01-01T12:00"]
        );
        assert_eq!(
            upcoming("* * * * *", "UTC", "2026-01-01T00:00:30Z", 2),
            ["01-01T00:01", "01-01T00:02"]
        );
    }

    #[test]
    fn a_skipped_time_fires_once_at_the_end_of_the_gap() {
        for expression in [
            "30 2 * * *",
            "0 2 * * *",
            "0,30 2 * * *",
            "*/15 2 * * *",
            "* 2 * * *",
        ] {
            assert_eq!(
                amsterdam(expression, SPRING, 1),
                ["03-29T01:00"],
                "{expression}"
            );
            assert!(
                amsterdam(expression, SPRING, 2)[1].starts_with("03-30T00:"),
                "{expression}"
            );
        }
        // The slot of 03:00 itself coincides.
        assert_eq!(
            amsterdam("30,0 2-3 * * *", SPRING, 3),
            ["03-29T01:00", "03-29T01:30", "03-30T00:00"]
        );
        // Only the skipped slots move.
        assert_eq!(
            amsterdam("0 */2 * * *", SPRING, 3),
            ["03-28T23:00", "03-29T01:00", "03-29T02:00"]
        );
        // Midnight itself is skipped.
        assert_eq!(
            upcoming("0 0 * * *", "Asia/Beirut", "2026-03-28T00:00:00Z", 2),
            ["03-28T22:00", "03-29T21:00"]
        );
        // A whole day is skipped: Samoa had no 30 December 2011.
        assert_eq!(
            upcoming("0 12 30 12 *", "Pacific/Apia", "2011-12-29T00:00:00Z", 1),
            ["12-30T10:00"]
        );
        // Half an hour is skipped.
        assert_eq!(
            upcoming(
                "15 2 * * *",
                "Australia/Lord_Howe",
                "2026-10-03T00:00:00Z",
                1
            ),
            ["10-03T15:30"]
        );
    }

    #[test]
    fn a_repeated_time_fires_the_first_time() {
        assert_eq!(
            amsterdam("30 2 * * *", AUTUMN, 2),
            ["10-25T00:30", "10-26T01:30"]
        );
        assert_eq!(
            amsterdam("*/30 1-3 * * *", AUTUMN, 6),
            [
                "10-24T23:00",
                "10-24T23:30",
                "10-25T00:00",
                "10-25T00:30",
                "10-25T02:00",
                "10-25T02:30"
            ]
        );
        // Asked in the second pass, when the clock shows 02:15 again.
        assert_eq!(
            amsterdam("30 2 * * *", "2026-10-25T01:15:00Z", 1),
            ["10-26T01:30"]
        );
    }

    #[test]
    fn every_hour_means_elapsed_time() {
        assert_eq!(
            amsterdam("30 * * * *", SPRING, 3),
            ["03-28T23:30", "03-29T00:30", "03-29T01:30"]
        );
        assert_eq!(
            amsterdam("30 * * * *", AUTUMN, 5),
            [
                "10-24T22:30",
                "10-24T23:30",
                "10-25T00:30",
                "10-25T01:30",
                "10-25T02:30"
            ]
        );
        assert_eq!(
            amsterdam("*/30 * * * *", "2026-10-25T00:30:00Z", 2),
            ["10-25T01:00", "10-25T01:30"]
        );
        // Where the clock changes by half an hour, two o'clock comes half an hour later once, and is skipped the other time.
        let howe = |expression, after, n| upcoming(expression, "Australia/Lord_Howe", after, n);
        assert_eq!(
            howe("0 * * * *", "2026-04-04T13:30:00Z", 3),
            ["04-04T14:00", "04-04T15:30", "04-04T16:30"]
        );
        assert_eq!(
            howe("0 * * * *", "2026-10-03T14:00:00Z", 3),
            ["10-03T14:30", "10-03T16:00", "10-03T17:00"]
        );
        // Half past one comes twice, half past two is where the gap ends.
        assert_eq!(
            howe("30 * * * *", "2026-04-04T14:00:00Z", 3),
            ["04-04T14:30", "04-04T15:00", "04-04T16:00"]
        );
        assert_eq!(
            howe("30 * * * *", "2026-10-03T14:30:00Z", 3),
            ["10-03T15:00", "10-03T15:30", "10-03T16:30"]
        );
    }

    #[test]
    fn days_follow_posix() {
        // Both given: either is enough. One given: only that one counts.
        assert_eq!(
            upcoming("0 0 13 * fri", "UTC", "2026-02-01T00:00:00Z", 4),
            ["02-06T00:00", "02-13T00:00", "02-20T00:00", "02-27T00:00"]
        );
        assert_eq!(
            upcoming("0 0 13 * *", "UTC", "2026-02-01T00:00:00Z", 2),
            ["02-13T00:00", "03-13T00:00"]
        );
        assert_eq!(
            upcoming("0 0 * * 7", "UTC", "2026-02-01T00:00:00Z", 2),
            ["02-08T00:00", "02-15T00:00"]
        );
        assert_eq!(
            upcoming("0 0 29 2 *", "UTC", "2026-02-01T00:00:00Z", 1),
            ["02-29T00:00"]
        );
    }

    #[test]
    fn zones_are_iana_names() {
        assert!(Schedule::new("@daily", "europe/amsterdam").is_ok());
        for zone in ["", "Mars/Olympus", "CEST-2", "local", "../../etc/passwd"] {
            assert_eq!(
                Schedule::new("@daily", zone).err().expect(zone).code(),
                "invalid_timezone"
            );
        }
    }

    #[test]
    fn the_calendar_ends() {
        assert_eq!(
            upcoming("@yearly", "UTC", "9999-06-01T00:00:00Z", 1),
            [""; 0]
        );
    }
}
