//! Thresholds: the first use in a period that reaches 50, 80 or 100 % of a limit is recorded, in its own transaction. The
//! counter stores which thresholds are recorded or being recorded (counter/slot.rs), so only one transaction writes. If it
//! rolls back, the next use above the threshold writes instead. The record is also what notifies: others take it from the table
//! (`kijko.take_threshold_crossings()`), and the commit tells them to look.

use pgrx::pg_sys;

use super::counter::counter_pins::Counter;
use super::meter_key::MeterKey;
use super::policy::limit_cache::QuotaPolicy;
use crate::pg::query::Statement;

/// Per cent, and the bit of each in the counter.
const THRESHOLDS: [(i64, u8); 3] = [(50, 1), (80, 2), (100, 4)];

thread_local! {
    static RECORD: Statement = const { Statement::new(
        "with crossed as ( \
             insert into kijko.threshold_crossings (subject, meter, period_start, threshold, used, \"limit\", crossed_at) \
             values ($1, $2, $3, $4::pg_catalog.int2, $5, $6, $7) on conflict do nothing returning 1) \
         select pg_catalog.pg_notify('kijko_threshold_crossings', '') from crossed",
        &[
            pg_sys::UUIDOID, pg_sys::TEXTOID, pg_sys::TIMESTAMPTZOID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID,
            pg_sys::TIMESTAMPTZOID,
        ],
    ) };
}

/// The bit of a threshold of so many per cent; 0 when there is no such threshold.
pub fn bit(percent: i64) -> u8 {
    let known = THRESHOLDS.iter().find(|(known, _)| *known == percent);
    known.map_or(0, |(_, bit)| *bit)
}

/// The bits of the thresholds that `used` has reached.
fn reached(used: i64, limit: i64) -> u8 {
    THRESHOLDS
        .iter()
        .filter(|(percent, _)| i128::from(used) * 100 >= i128::from(limit) * i128::from(*percent))
        .fold(0, |bits, (_, bit)| bits | bit)
}

/// Records the thresholds that `used` has reached, unless they are recorded already. A limit of 0 has none.
pub fn record_threshold(
    counter: Counter,
    policy: &QuotaPolicy,
    key: MeterKey,
    used: i64,
    now: i64,
) {
    let Some(limit) = policy.limit.filter(|limit| *limit > 0 && used >= limit / 2) else {
        return;
    };
    let mine = counter.claim_thresholds(reached(used, limit));
    for (percent, _) in THRESHOLDS.iter().filter(|(_, bit)| mine & bit != 0) {
        let values = [
            key.subject.into(),
            key.meter.into(),
            policy.period.start.into(),
            (*percent).into(),
            used.into(),
            limit.into(),
            now.into(),
        ];
        RECORD.with(|statement| statement.write(&values, |_| ()));
    }
}

#[cfg(test)]
mod unit {
    use super::reached;

    #[test]
    fn thresholds_are_reached_exactly() {
        let table = [
            (0, 0),
            (49, 0),
            (50, 1),
            (79, 1),
            (80, 3),
            (99, 3),
            (100, 7),
            (5_000, 7),
        ];
        for (used, bits) in table {
            assert_eq!(reached(used, 100), bits, "{used}");
        }
        assert_eq!(reached(1, 3), 0);
        assert_eq!(reached(2, 3), 1);
        assert_eq!(reached(i64::MAX, i64::MAX), 7);
    }
}
