//! The periods in which uses count. Pure: time zones come from the library's own database, the current time is an
//! argument, and all times are Postgres microseconds (since 2000-01-01 UTC).

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::clock;

/// A lifetime, with the values of Postgres' -infinity and infinity.
pub const LIFETIME: Period = Period {
    start: i64::MIN,
    end: i64::MAX,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Inclusive.
    pub start: i64,
    /// Exclusive.
    pub end: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeriodKind {
    Day,
    Month,
    /// A month from the subject's billing anchor; a calendar month without one.
    Billing,
    Lifetime,
}

impl PeriodKind {
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "day" => Self::Day,
            "month" => Self::Month,
            "billing" => Self::Billing,
            "lifetime" => Self::Lifetime,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
            Self::Billing => "billing",
            Self::Lifetime => "lifetime",
        }
    }
}

/// The time zone and billing anchor of a subject.
#[derive(Clone, Debug)]
pub struct Calendar {
    pub zone: TimeZone,
    /// When its first billing month began.
    pub anchor: Option<i64>,
}

impl Calendar {
    pub fn new(zone: &str, anchor: Option<i64>) -> Option<Self> {
        Some(Self {
            zone: TimeZone::get(zone).ok()?,
            anchor,
        })
    }

    pub fn utc(anchor: Option<i64>) -> Self {
        Self {
            zone: TimeZone::UTC,
            anchor,
        }
    }

    /// The day of a moment, counted from 2000-01-01.
    pub fn day(&self, at: i64) -> i32 {
        const FIRST: Date = jiff::civil::date(2000, 1, 1);
        let day = self.local(at).date();
        // The difference of two dates is in days.
        (day - FIRST).get_days()
    }
}

/// A calendar, and its former version.
#[derive(Clone, Debug)]
pub struct Calendars {
    pub present: Calendar,
    /// The former calendar, and when it was changed.
    pub former: Option<(Calendar, i64)>,
}

impl Calendars {
    /// The period of `kind` that contains `now`. A changed calendar applies when the period of the change has ended, from
    /// the nearer boundary of the new calendar on, so that no short period grants a full limit.
    pub fn period(&self, kind: PeriodKind, now: i64) -> Period {
        if kind == PeriodKind::Lifetime {
            return LIFETIME;
        }
        let Some((former, changed)) = &self.former else {
            return self.present.period(kind, now);
        };
        let last = former.period(kind, *changed);
        let next = self.present.period(kind, last.end);
        let change = if next.end - last.end < last.end - next.start {
            next.end
        } else {
            last.end
        };
        if now >= change {
            let period = self.present.period(kind, now);
            Period {
                start: period.start.max(change),
                end: period.end,
            }
        } else if now >= last.start {
            Period {
                start: last.start,
                end: change,
            }
        } else {
            former.period(kind, now)
        }
    }

    /// Whether a current period contains the change of the calendar, or has another length because of it. A second
    /// change would lose that, and the period would start again.
    pub fn is_changing(&self, now: i64) -> bool {
        let Some((_, changed)) = &self.former else {
            return false;
        };
        [PeriodKind::Day, PeriodKind::Month, PeriodKind::Billing]
            .iter()
            .any(|kind| {
                let period = self.period(*kind, now);
                period.start <= *changed || period != self.present.period(*kind, now)
            })
    }
}

impl Calendar {
    fn period(&self, kind: PeriodKind, now: i64) -> Period {
        match kind {
            PeriodKind::Lifetime => LIFETIME,
            PeriodKind::Day => {
                let today = self.local(now).date();
                self.between(
                    today,
                    today.checked_add(1.day()).unwrap_or(Date::MAX),
                    Time::midnight(),
                )
            }
            PeriodKind::Month => self.calendar_month(now),
            PeriodKind::Billing => match self.anchor {
                Some(anchor) => self.billing_month(anchor, now),
                None => self.calendar_month(now),
            },
        }
    }

    fn calendar_month(&self, now: i64) -> Period {
        let first = self.local(now).date().first_of_month();
        self.between(
            first,
            first.checked_add(1.month()).unwrap_or(Date::MAX),
            Time::midnight(),
        )
    }

    /// Counts months from the anchor: an anchor on the 31st is the 28th in February and the 31st again in March.
    fn billing_month(&self, anchor: i64, now: i64) -> Period {
        let anchor = self.local(anchor);
        let today = self.local(now);
        let months = |date: Date| i32::from(date.year()) * 12 + i32::from(date.month());
        let guess = months(today.date()) - months(anchor.date());
        let date = |n: i32| anchor.date().checked_add(n.months()).unwrap_or(Date::MAX);
        let period = |n: i32| self.between(date(n), date(n + 1), anchor.time());
        let this = period(guess);
        if now < this.start {
            period(guess - 1)
        } else if now >= this.end {
            period(guess + 1)
        } else {
            this
        }
    }

    fn local(&self, at: i64) -> DateTime {
        self.zone
            .to_datetime(clock::instant(at).unwrap_or(Timestamp::MAX))
    }

    fn between(&self, from: Date, to: Date, time: Time) -> Period {
        Period {
            start: self.instant(from.to_datetime(time)),
            end: self.instant(to.to_datetime(time)),
        }
    }

    /// A local time that a clock change skips is the moment after the gap. One that occurs twice is the first.
    fn instant(&self, local: DateTime) -> i64 {
        let at = self
            .zone
            .to_ambiguous_timestamp(local)
            .compatible()
            .unwrap_or(Timestamp::MAX);
        clock::of_instant(at)
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    fn at(text: &str) -> i64 {
        clock::of_instant(text.parse().unwrap())
    }

    fn text(period: Period) -> (String, String) {
        let instant = |at: i64| clock::instant(at).unwrap().to_string();
        (instant(period.start), instant(period.end))
    }

    fn period(zone: &str, anchor: Option<&str>, kind: PeriodKind, now: &str) -> (String, String) {
        let present = Calendar::new(zone, anchor.map(at)).unwrap();
        text(
            Calendars {
                present,
                former: None,
            }
            .period(kind, at(now)),
        )
    }

    fn is(start: &str, end: &str) -> (String, String) {
        (start.to_owned(), end.to_owned())
    }

    #[test]
    fn months_and_days_begin_at_local_midnight() {
        assert_eq!(
            period("UTC", None, PeriodKind::Month, "2026-02-28T23:59:59Z"),
            is("2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z")
        );
        assert_eq!(
            period(
                "Europe/Amsterdam",
                None,
                PeriodKind::Month,
                "2026-02-28T23:00:00Z"
            ),
            is("2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z")
        );
        assert_eq!(
            period(
                "Europe/Amsterdam",
                None,
                PeriodKind::Day,
                "2026-03-29T12:00:00Z"
            ),
            is("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z") // 23 hours
        );
    }

    #[test]
    fn midnight_may_be_skipped_or_occur_twice() {
        // Clocks went from 00:00 to 01:00 on this day, and back from 00:00 to 23:00 on that one.
        assert_eq!(
            period(
                "America/Sao_Paulo",
                None,
                PeriodKind::Day,
                "2018-11-04T12:00:00Z"
            ),
            is("2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z")
        );
        assert_eq!(
            period(
                "America/Havana",
                None,
                PeriodKind::Day,
                "2026-11-01T12:00:00Z"
            ),
            is("2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z")
        );
    }

    #[test]
    fn billing_months_keep_the_day_and_time_of_the_anchor() {
        let anchor = Some("2025-12-31T10:30:00Z");
        assert_eq!(
            period("UTC", anchor, PeriodKind::Billing, "2026-02-28T10:29:59Z"),
            is("2026-01-31T10:30:00Z", "2026-02-28T10:30:00Z")
        );
        assert_eq!(
            period("UTC", anchor, PeriodKind::Billing, "2026-02-28T10:30:00Z"),
            is("2026-02-28T10:30:00Z", "2026-03-31T10:30:00Z")
        );
        // Before the anchor too, and without one like a calendar month.
        assert_eq!(
            period("UTC", anchor, PeriodKind::Billing, "2025-11-30T10:30:00Z"),
            is("2025-11-30T10:30:00Z", "2025-12-31T10:30:00Z")
        );
        assert_eq!(
            period("UTC", None, PeriodKind::Billing, "2026-02-28T00:00:00Z"),
            is("2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z")
        );
    }

    #[test]
    fn billing_periods_follow_each_other_without_gaps() {
        let anchor = at("2024-01-30T23:45:00Z");
        let calendar = Calendar::new("Europe/Amsterdam", Some(anchor)).unwrap();
        let mut now = at("2023-06-01T00:00:00Z");
        let mut last = calendar.period(PeriodKind::Billing, now);
        while now < at("2026-06-01T00:00:00Z") {
            let period = calendar.period(PeriodKind::Billing, now);
            assert!(period.start <= now && now < period.end);
            assert!(period == last || period.start == last.end);
            last = period;
            now += 3_600_000_000;
        }
    }

    #[test]
    fn a_lifetime_has_no_bounds() {
        let calendars = Calendars {
            present: Calendar::new("UTC", None).unwrap(),
            former: None,
        };
        assert_eq!(calendars.period(PeriodKind::Lifetime, 0), LIFETIME);
    }

    fn moved(from: &str, to: &str, changed: &str, now: &str) -> (String, String) {
        let calendar = |zone| Calendar::new(zone, None).unwrap();
        let calendars = Calendars {
            present: calendar(to),
            former: Some((calendar(from), at(changed))),
        };
        text(calendars.period(PeriodKind::Month, at(now)))
    }

    #[test]
    fn a_changed_time_zone_applies_from_the_next_period() {
        let change = "2026-05-10T00:00:00Z";
        // Eastwards: the new month has begun already, and is a little shorter.
        let (amsterdam, york) = ("Europe/Amsterdam", "America/New_York");
        let may = is("2026-05-01T04:00:00Z", "2026-06-01T04:00:00Z");
        assert_eq!(moved(york, amsterdam, change, "2026-05-31T23:00:00Z"), may);
        assert_eq!(
            moved(york, amsterdam, change, "2026-06-01T04:00:00Z"),
            is("2026-06-01T04:00:00Z", "2026-06-30T22:00:00Z")
        );
        // Westwards: the old month lasts until the new one begins. No six hours with a limit of their own.
        let may = is("2026-04-30T22:00:00Z", "2026-06-01T04:00:00Z");
        assert_eq!(moved(amsterdam, york, change, "2026-06-01T03:59:59Z"), may);
        assert_eq!(
            moved(amsterdam, york, change, "2026-06-01T04:00:00Z"),
            is("2026-06-01T04:00:00Z", "2026-07-01T04:00:00Z")
        );
        let calendar = |zone| Calendar::new(zone, None).unwrap();
        let east = Calendars {
            present: calendar(amsterdam),
            former: Some((calendar(york), at(change))),
        };
        assert!(east.is_changing(at("2026-05-31T12:00:00Z")));
        assert!(east.is_changing(at("2026-06-30T21:59:59Z")));
        assert!(!east.is_changing(at("2026-06-30T22:00:00Z")));
        // Before the change everything is as it was.
        assert_eq!(
            moved(amsterdam, york, change, "2026-04-30T21:59:59Z"),
            is("2026-03-31T22:00:00Z", "2026-04-30T22:00:00Z")
        );
    }
}
