//! Threshold crossings: 50, 80 and 100 % of a limit are recorded once in each period, by the transaction that crosses.
//! The counter remembers which are recorded or being recorded (slot.rs), so that only that one transaction writes; if
//! it rolls back, the next use above the threshold writes instead.

use pgrx::pg_sys;

use super::policy::Policy;
use super::transaction::Counter;
use crate::pg::datum;
use crate::pg::query::Statement;

/// Per cent, and the bit of each in the counter; ledger.rs loads the same bits.
const THRESHOLDS: [(i64, u8); 3] = [(50, 1), (80, 2), (100, 4)];

thread_local! {
    static RECORD: Statement = const { Statement::new(
        "insert into kijko.threshold_crossings (subject, meter, period_start, threshold, used, \"limit\", crossed_at) \
         values ($1, $2, $3, $4::pg_catalog.int2, $5, $6, $7) on conflict do nothing",
        &[
            pg_sys::UUIDOID, pg_sys::TEXTOID, pg_sys::TIMESTAMPTZOID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID,
            pg_sys::TIMESTAMPTZOID,
        ],
    ) };
}

/// The bits of the thresholds that `used` has reached.
fn reached(used: i64, limit: i64) -> u8 {
    THRESHOLDS
        .iter()
        .filter(|(percent, _)| i128::from(used) * 100 >= i128::from(limit) * i128::from(*percent))
        .fold(0, |bits, (_, bit)| bits | bit)
}

/// Records what `used` has reached and nobody has recorded. A limit of nothing has no thresholds.
pub fn cross(
    counter: Counter,
    policy: &Policy,
    subject: &[u8; 16],
    meter: &str,
    used: i64,
    now: i64,
) {
    let Some(limit) = policy.limit.filter(|limit| *limit > 0 && used >= limit / 2) else {
        return;
    };
    let mine = counter.begin_crossing(reached(used, limit));
    for (percent, _) in THRESHOLDS.iter().filter(|(_, bit)| mine & bit != 0) {
        let integer = |value: i64| Some(pg_sys::Datum::from(value));
        let values = [
            Some(datum::uuid_datum(subject)),
            Some(datum::text_datum(meter)),
            integer(policy.period.start),
            integer(*percent),
            integer(used),
            integer(limit),
            integer(now),
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
