//! SQL functions about periods and calendars.

use pgrx::datum::{Date, TimestampWithTimeZone};
use pgrx::prelude::*;

use super::limit_cache;
use super::period::{Calendar, PeriodKind};

/// The first day of Postgres, Julian day 0, counted from 2000-01-01.
const FIRST_DAY: i32 = -2_451_545;

/// The period that contains a time: its kind, its start (-infinity for a lifetime) and its end (infinity). `otherwise` is
/// the kind for a meter without a limit.
#[pg_extern(stable, parallel_unsafe)]
pub fn period_at(
    subject: pgrx::Uuid,
    meter: &str,
    at: TimestampWithTimeZone,
    otherwise: default!(&str, "'month'"),
) -> TableIterator<
    'static,
    (
        name!(period, String),
        name!(starts_at, TimestampWithTimeZone),
        name!(ends_at, TimestampWithTimeZone),
    ),
> {
    let otherwise = PeriodKind::parse(otherwise).unwrap_or(PeriodKind::Month);
    let policy = limit_cache::of(subject.as_bytes(), meter, micros(at), otherwise);
    TableIterator::once((
        policy.kind.name().to_owned(),
        timestamp(policy.period.start),
        timestamp(policy.period.end),
    ))
}

/// The end of the period of a kind in the subject's calendar, whatever its limits are. Null for a lifetime.
#[pg_extern(stable, parallel_unsafe)]
pub fn period_end(
    subject: pgrx::Uuid,
    period: &str,
    at: TimestampWithTimeZone,
) -> Option<TimestampWithTimeZone> {
    let kind = PeriodKind::parse(period).filter(|kind| *kind != PeriodKind::Lifetime)?;
    Some(timestamp(
        limit_cache::calendar_period(subject.as_bytes(), kind, micros(at)).end,
    ))
}

/// Whether a current period is affected by the last change of the subject's calendar.
#[pg_extern(stable, parallel_unsafe)]
pub fn calendar_is_changing(subject: pgrx::Uuid, at: TimestampWithTimeZone) -> bool {
    limit_cache::calendar_is_changing(subject.as_bytes(), micros(at))
}

/// Whether the library knows a time zone by this name.
#[pg_extern(immutable, parallel_safe)]
pub fn is_time_zone(name: &str) -> bool {
    Calendar::new(name, None).is_some()
}

/// The day of a moment in a time zone, by the library's time zone database, as for periods: the server's has other names, and
/// reads some as abbreviations (its CET has no summer time). UTC when the zone is unknown; infinite when the moment is.
#[pg_extern(immutable, parallel_safe)]
pub fn local_day(at: TimestampWithTimeZone, time_zone: &str) -> Date {
    let days = match micros(at) {
        i64::MIN => i32::MIN,
        i64::MAX => i32::MAX,
        at => Calendar::new(time_zone, None)
            .unwrap_or(Calendar::utc(None))
            .day(at)
            .max(FIRST_DAY),
    };
    // SAFETY: the day of a timestamptz, and not before the first day, where it could be west of Greenwich.
    unsafe { Date::from_pg_epoch_days(days) }
}

fn micros(at: TimestampWithTimeZone) -> i64 {
    i64::from(at)
}

fn timestamp(micros: i64) -> TimestampWithTimeZone {
    // SAFETY: a timestamptz datum is its microseconds, infinities included.
    unsafe { TimestampWithTimeZone::from_datum(pg_sys::Datum::from(micros), false) }
        .unwrap_or_else(|| error!("a period has bounds"))
}
