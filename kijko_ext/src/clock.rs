//! Product time: the transaction's clock plus an offset that only a superuser can set, for tests and demonstrations. Also
//! conversions between Postgres' time and Unix time.

use pgrx::prelude::*;

use crate::guc;
use crate::pg::plain_calls;

/// Times are microseconds since 2000-01-01 UTC, as in a timestamptz, where nothing else is said.
pub const SECOND: i64 = 1_000_000;
const POSTGRES_EPOCH_IN_UNIX_MICROS: i64 = 946_684_800 * SECOND;

/// `now()` plus `kijko.clock_offset`.
#[pg_extern(stable, parallel_safe)]
fn now() -> TimestampWithTimeZone {
    TimestampWithTimeZone::try_from(now_micros())
        .unwrap_or_else(|_| error!("kijko.clock_offset leads out of range"))
}

/// The same in Postgres microseconds.
pub fn now_micros() -> i64 {
    plain_calls::GetCurrentTransactionStartTimestamp() + guc::clock_offset_micros()
}

/// The time of day, which does not travel, in Postgres microseconds.
pub fn real_micros() -> i64 {
    plain_calls::GetCurrentTimestamp()
}

/// The current second in Unix time.
pub fn unix_now() -> i64 {
    unix_micros(real_micros()) / SECOND
}

/// Infinite times saturate.
pub fn unix_micros(at: i64) -> i64 {
    at.saturating_add(POSTGRES_EPOCH_IN_UNIX_MICROS)
}

/// The second that a time lies in; 0 for all before 1970.
pub fn unix_seconds(at: i64) -> u64 {
    unix_micros(at).max(0).unsigned_abs() / SECOND as u64
}

/// The first second that is not before a time.
pub fn unix_seconds_from(at: i64) -> u64 {
    unix_micros(at)
        .max(0)
        .unsigned_abs()
        .div_ceil(SECOND as u64)
}

/// Rounded up, so that a client who waits that long is past `until`. Saturates for infinite times.
pub fn seconds_between(from: i64, until: i64) -> u64 {
    until
        .saturating_sub(from)
        .max(0)
        .unsigned_abs()
        .div_ceil(SECOND as u64)
}

/// None for infinity, and for times that the calendar of jiff does not reach.
pub fn instant(at: i64) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_microsecond(unix_micros(at)).ok()
}

pub fn of_instant(instant: jiff::Timestamp) -> i64 {
    instant.as_microsecond() - POSTGRES_EPOCH_IN_UNIX_MICROS
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn both_counts_name_the_same_moment() {
        let moment: jiff::Timestamp = "2000-01-01T00:00:01.5Z".parse().unwrap();
        assert_eq!(of_instant(moment), 1_500_000);
        assert_eq!(instant(1_500_000), Some(moment));
        assert_eq!(unix_micros(1_500_000), 946_684_801_500_000);
    }

    #[test]
    fn seconds_are_of_the_moment_or_the_next() {
        assert_eq!(unix_seconds(1_500_000), 946_684_801);
        assert_eq!(unix_seconds_from(1_500_000), 946_684_802);
        assert_eq!(unix_seconds_from(1_000_000), 946_684_801);
        assert_eq!(unix_seconds(i64::MIN), 0);
        assert_eq!(seconds_between(0, 1), 1);
        assert_eq!(seconds_between(1, 0), 0);
        assert_eq!(seconds_between(i64::MIN, 0), 9_223_372_036_855);
    }

    #[test]
    fn infinity_is_no_moment() {
        assert_eq!(instant(i64::MAX), None);
        assert_eq!(instant(i64::MIN), None);
        assert_eq!(unix_micros(i64::MAX), i64::MAX);
    }
}
