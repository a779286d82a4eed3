//! The time of a CloudEvent.

use pgrx::prelude::*;

use crate::clock;

/// An RFC 3339 time, or null. Never an error: the text comes from another service.
#[pg_extern(immutable, parallel_safe)]
pub fn event_time(text: &str) -> Option<TimestampWithTimeZone> {
    let micros = parse(text)?;
    TimestampWithTimeZone::try_from(micros).ok()
}

/// In Postgres microseconds. None for a time without an offset.
fn parse(text: &str) -> Option<i64> {
    text.parse().ok().map(clock::of_instant)
}

#[cfg(test)]
mod unit {
    use super::parse;

    #[test]
    fn only_rfc_3339_times_with_an_offset_are_read() {
        assert_eq!(parse("2000-01-01T00:00:01Z"), Some(1_000_000));
        assert_eq!(parse("2000-01-01T01:00:00.5+01:00"), Some(500_000));
        for text in [
            "",
            "now",
            "2026-02-30T00:00:00Z",
            "2026-11-21",
            "2026-11-21T10:00:00",
            "1763700000",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
