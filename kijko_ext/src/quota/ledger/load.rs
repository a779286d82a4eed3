//! Loads a counter: sums the ledger when the counter is not in shared memory.

use std::ops::ControlFlow;

use pgrx::prelude::*;

use super::columns::COUNTER_KEY;
use super::unrolled;
use crate::pg::query::Statement;
use crate::pg::scan::{self, ScanKey};
use crate::pg::sql_function::{Answer, Arguments, sql_function};
use crate::quota::counter::slot::Loaded;
use crate::quota::hold::store;
use crate::quota::meter_key::MeterKey;
use crate::quota::threshold;

thread_local! {
    // One row for each partition that is not rolled up.
    static PARTITIONS: Statement = const { Statement::new(
        "select (select r.rolled_until from kijko.rollup_state as r), p.partition \
         from (select pg_catalog.to_regclass(q.partition)::pg_catalog.oid from kijko.ledger_partitions as q \
               where q.rolled_at is null \
               union all select 'kijko.ledger_default'::pg_catalog.regclass::pg_catalog.oid) as p(partition)",
        &[],
    ) };
}

sql_function!(kijko_has_usage, pg_finfo_kijko_has_usage, has_usage);

/// `kijko.has_usage(subject)`: whether there is anything committed of it, or this transaction's own, that counts in a period.
fn has_usage(arguments: Arguments) -> Answer {
    let Some(subject) = arguments.uuid(0) else {
        return Ok(arguments.null());
    };
    let found = PARTITIONS.with(|statement| {
        statement.read(&[], |rows| {
            let mut partitions = rows.iter().filter_map(|row| row.integer(2));
            has_totals(&subject)
                || partitions.any(|oid| unrolled::has_rows(pg_sys::Oid::from(oid as u32), &subject))
                || store::has_any(&subject)
        })
    });
    Ok(pg_sys::Datum::from(found))
}

fn has_totals(subject: &[u8; 16]) -> bool {
    let keys = [ScanKey::new(1, subject)];
    let mut found = false;
    // SAFETY: the first column of kijko.usage_totals, and of its primary key. The query's snapshot is active.
    unsafe {
        let snapshot = pg_sys::GetActiveSnapshot();
        scan::visit_own(
            c"usage_totals",
            c"usage_totals_pkey",
            &keys,
            snapshot,
            |_| {
                found = true;
                ControlFlow::Break(())
            },
        );
    }
    found
}

/// Everything committed for a counter, by one snapshot: the rolled-up sum, the rows that are not rolled up yet, and open holds.
/// The tables of partitions are read by a query. Only maintenance writes them, in READ COMMITTED, so its predicate locks disturb no
/// tenant.
pub fn load(key: MeterKey, period_start: i64) -> Loaded {
    PARTITIONS.with(|statement| {
        statement.read(&[], |rows| {
            let columns = |[subject, meter, period]: [i16; 3]| {
                [
                    ScanKey::new(subject, key.subject),
                    ScanKey::new(meter, key.meter),
                    ScanKey::new(period, period_start),
                ]
            };
            let in_ledger = columns(COUNTER_KEY);
            let rolled_until = rows[0].integer(1).unwrap_or(i64::MIN);
            let partitions = rows.iter().filter_map(|row| row.integer(2));
            let unrolled = partitions
                .map(|oid| unrolled::sum(pg_sys::Oid::from(oid as u32), &in_ledger, rolled_until));
            let (held, next_expiry) = open_holds(key, period_start);
            let first = columns([1, 2, 3]);
            Loaded {
                used: unrolled.fold(rolled_up(&first).saturating_add(held), i64::saturating_add),
                thresholds: recorded_thresholds(&first),
                next_expiry,
            }
        })
    })
}

fn rolled_up(keys: &[ScanKey; 3]) -> i64 {
    const AMOUNT: i32 = 4;
    let mut amount = 0;
    // SAFETY: the columns of kijko.usage_totals, and of its primary key. The query's snapshot is active.
    unsafe {
        let snapshot = pg_sys::GetActiveSnapshot();
        scan::visit_own(
            c"usage_totals",
            c"usage_totals_pkey",
            keys,
            snapshot,
            |row| {
                amount = row.integer(AMOUNT).unwrap_or(0);
                ControlFlow::Break(())
            },
        );
    }
    amount
}

/// The sum of the open holds, and when the first of them expires.
fn open_holds(key: MeterKey, period_start: i64) -> (i64, i64) {
    let (mut held, mut next_expiry) = (0_i64, i64::MAX);
    // SAFETY: the query's snapshot is active.
    unsafe {
        store::visit_open(key, period_start, pg_sys::GetActiveSnapshot(), |hold| {
            held = held.saturating_add(hold.amount);
            next_expiry = next_expiry.min(hold.expires_at);
        });
    }
    (held, next_expiry)
}

fn recorded_thresholds(keys: &[ScanKey; 3]) -> u8 {
    const THRESHOLD: i32 = 4;
    let mut bits = 0;
    // SAFETY: the columns of kijko.threshold_crossings; its primary key begins with them. The query's snapshot is active.
    unsafe {
        let snapshot = pg_sys::GetActiveSnapshot();
        scan::visit_own(
            c"threshold_crossings",
            c"threshold_crossings_pkey",
            keys,
            snapshot,
            |row| {
                bits |= row.integer(THRESHOLD).map_or(0, threshold::bit);
                ControlFlow::Continue(())
            },
        );
    }
    bits
}
