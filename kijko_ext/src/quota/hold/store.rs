//! The rows of `kijko.holds` that `kijko.reserve` reads and writes.

use std::ops::ControlFlow;

use pgrx::prelude::*;

use crate::pg::datum;
use crate::pg::query::{self, Statement};
use crate::pg::scan::{self, ScanKey, Tuple};
use crate::pg::sql_function::{Answer, Arguments, sql_function};
use crate::pg::value::Held;
use crate::quota::meter_key::MeterKey;

thread_local! {
    static EXTEND: Statement = const { Statement::new(
        "select kijko.extend_hold($1, $2, $3)::pg_catalog.int4::pg_catalog.int8",
        &[pg_sys::UUIDOID, pg_sys::TIMESTAMPTZOID, pg_sys::TIMESTAMPTZOID],
    ) };
    static INSERT: Statement = const { Statement::new(
        "insert into kijko.holds (id, subject, meter, period_start, amount, idempotency_key, created_at, expires_at, overage, state) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'open')",
        &[
            pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::TEXTOID, pg_sys::TIMESTAMPTZOID, pg_sys::INT8OID, pg_sys::TEXTOID,
            pg_sys::TIMESTAMPTZOID, pg_sys::TIMESTAMPTZOID, pg_sys::INT8OID,
        ],
    ) };
    // Postgres reads the checks of the table anew for each statement: one for all rows.
    static INSERT_MANY: Statement = const { Statement::new(
        "insert into kijko.holds (id, subject, meter, period_start, amount, overage, created_at, expires_at, state) \
         select ($1)[n], ($2)[n], ($3)[n], ($4)[n], ($5)[n], ($6)[n], $7, $8, 'open' \
         from pg_catalog.generate_series(1, pg_catalog.cardinality($1)) as n",
        &[
            pg_sys::UUIDARRAYOID, pg_sys::UUIDARRAYOID, pg_sys::TEXTARRAYOID, pg_sys::TIMESTAMPTZARRAYOID, pg_sys::INT8ARRAYOID,
            pg_sys::INT8ARRAYOID, pg_sys::TIMESTAMPTZOID, pg_sys::TIMESTAMPTZOID,
        ],
    ) };
}

/// Columns of kijko.holds.
mod column {
    pub const ID: i32 = 1;
    pub const COUNTER_KEY: [i16; 3] = [2, 3, 4];
    pub const AMOUNT: i32 = 5;
    pub const STATE: i32 = 6;
    pub const IDEMPOTENCY_KEY: i16 = 7;
    pub const EXPIRES_AT: i32 = 9;
}

/// A hold that counts as used.
pub struct OpenHold {
    pub tid: pg_sys::ItemPointerData,
    pub amount: i64,
    pub expires_at: i64,
}

/// A hold found by its key.
pub struct Found {
    pub id: [u8; 16],
    pub amount: i64,
    /// Settled, or open and not expired.
    pub is_current: bool,
}

/// A new hold.
pub struct NewHold<'a> {
    pub id: &'a [u8; 16],
    pub key: MeterKey<'a>,
    pub period_start: i64,
    pub amount: i64,
    /// The part of the amount above a limit that flags or bills.
    pub overage: i64,
    pub idempotency_key: Option<&'a str>,
    pub created_at: i64,
    pub expires_at: i64,
}

/// New holds without keys, column by column. They begin and expire at the same time.
pub struct NewHolds<'a> {
    pub ids: &'a [[u8; 16]],
    /// Arrays as a call gives them.
    pub subjects: Held<'a>,
    pub meters: Held<'a>,
    pub amounts: Held<'a>,
    pub period_starts: &'a [i64],
    pub overages: &'a [i64],
    pub created_at: i64,
    pub expires_at: i64,
}

pub fn find(key: MeterKey, idempotency_key: &str, now: i64) -> Option<Found> {
    let keys = [
        ScanKey::new(column::COUNTER_KEY[0], key.subject),
        ScanKey::new(column::COUNTER_KEY[1], key.meter),
        ScanKey::new(column::IDEMPOTENCY_KEY, idempotency_key),
    ];
    let mut found = None;
    // SAFETY: the columns of kijko.holds; the index has every hold with a key.
    scan::with_latest_snapshot(|snapshot| unsafe {
        scan::visit_own(c"holds", c"holds_by_key", &keys, snapshot, |row| {
            let is_current = match row.text(column::STATE).as_deref() {
                Some("settled") => true,
                Some("open") => row.integer(column::EXPIRES_AT) > Some(now),
                _ => false,
            };
            found = row.uuid(column::ID).map(|id| Found {
                id,
                amount: row.integer(column::AMOUNT).unwrap_or(0),
                is_current,
            });
            ControlFlow::Break(())
        });
    });
    found
}

sql_function!(kijko_find_hold, pg_finfo_kijko_find_hold, find_hold);

/// `kijko.find_hold(id)`: where the newest committed version of a hold is, or this transaction's own; null without one.
fn find_hold(arguments: Arguments) -> Answer {
    let Some(id) = arguments.uuid(0) else {
        return Ok(arguments.null());
    };
    // SAFETY: the primary key is of type uuid.
    let found = unsafe {
        let keys = [ScanKey::new(column::ID as i16, &id)];
        scan::find(
            query::table(c"holds"),
            &keys,
            committed_or_own(),
            Tuple::tid,
        )
    };
    Ok(match found {
        Some(tid) => datum::tid_datum(tid),
        None => arguments.null(),
    })
}

/// A snapshot of the newest committed versions of rows, and of this transaction's own. It need not be active.
pub fn committed_or_own() -> pg_sys::Snapshot {
    &raw mut pg_sys::SnapshotSelfData // a constant of Postgres
}

sql_function!(
    kijko_find_expired_holds,
    pg_finfo_kijko_find_expired_holds,
    find_expired_holds
);

/// `kijko.find_expired_holds(present, skipped, at_most)`: places of expired holds, without the first `skipped` ones; null for none.
fn find_expired_holds(arguments: Arguments) -> Answer {
    let Some(present) = arguments.integer(0) else {
        return Ok(arguments.null());
    };
    let mut skipped = arguments.integer(1).unwrap_or(0);
    let at_most = arguments.integer(2).unwrap_or(i64::MAX);
    let mut places = Vec::new();
    let keys = [ScanKey::not_after(column::EXPIRES_AT as i16, present)];
    // SAFETY: a column of kijko.holds; the index has every open hold.
    unsafe {
        scan::visit_own(
            c"holds",
            c"holds_expiring",
            &keys,
            committed_or_own(),
            |row| {
                if places.len() as i64 >= at_most {
                    return ControlFlow::Break(());
                }
                if row.text(column::STATE).as_deref() == Some("open") {
                    match skipped > 0 {
                        true => skipped -= 1,
                        false => places.push(row.tid()),
                    }
                }
                ControlFlow::Continue(())
            },
        );
    }
    Ok(datum::tids_datum(&places).unwrap_or_else(|| arguments.null()))
}

/// Runs `visit` on the open holds of a counter, as a snapshot sees them.
///
/// # Safety
/// The snapshot is active, or of a kind that need not be.
pub unsafe fn visit_open(
    key: MeterKey,
    period_start: i64,
    snapshot: pg_sys::Snapshot,
    mut visit: impl FnMut(&OpenHold),
) {
    let [subject, meter, period] = column::COUNTER_KEY;
    let keys = [
        ScanKey::new(subject, key.subject),
        ScanKey::new(meter, key.meter),
        ScanKey::new(period, period_start),
    ];
    // SAFETY: the columns of kijko.holds; the index has every open hold.
    unsafe {
        scan::visit_own(c"holds", c"holds_open", &keys, snapshot, |row| {
            if row.text(column::STATE).as_deref() == Some("open") {
                visit(&OpenHold {
                    tid: row.tid(),
                    amount: row.integer(column::AMOUNT).unwrap_or(0),
                    expires_at: row.integer(column::EXPIRES_AT).unwrap_or(i64::MAX),
                });
            }
            ControlFlow::Continue(())
        });
    }
}

/// Whether the active snapshot sees a hold of a subject, also one that has ended. No index has these: it reads the table.
pub fn has_any(subject: &[u8; 16]) -> bool {
    let keys = [ScanKey::new(column::COUNTER_KEY[0], subject)];
    let mut found = false;
    // SAFETY: a column of kijko.holds, which is open meanwhile. A query's snapshot is active.
    unsafe {
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        let table = pg_sys::table_open(query::table(c"holds"), lock);
        let snapshot = pg_sys::GetActiveSnapshot();
        scan::visit(table, None, &keys, snapshot, |_| {
            found = true;
            ControlFlow::Break(())
        });
        pg_sys::table_close(table, lock);
    }
    found
}

/// Extends an expired hold that no transaction has ended yet. True when its key is free instead.
pub fn extend(id: &[u8; 16], expires_at: i64, period_start: i64) -> bool {
    let values = [id.into(), expires_at.into(), period_start.into()];
    let extended =
        EXTEND.with(|statement| statement.write(&values, |rows| rows[0].integer(1) == Some(1)));
    !extended
}

pub fn insert(hold: &NewHold) {
    let values = [
        hold.id.into(),
        hold.key.subject.into(),
        hold.key.meter.into(),
        hold.period_start.into(),
        hold.amount.into(),
        hold.idempotency_key.into(),
        hold.created_at.into(),
        hold.expires_at.into(),
        hold.overage.into(),
    ];
    INSERT.with(|statement| statement.write(&values, |_| ()));
}

pub fn insert_many(holds: &NewHolds) {
    let ids = datum::uuids_datum(holds.ids);
    let period_starts = datum::integers_datum(holds.period_starts, pg_sys::TIMESTAMPTZOID);
    let overages = datum::integers_datum(holds.overages, pg_sys::INT8OID);
    // SAFETY: they are in the memory of the caller's call, which lasts longer than the statement.
    let [ids, period_starts, overages] =
        [ids, period_starts, overages].map(|datum| unsafe { Held::new(datum.value()) });
    let values = [
        ids.into(),
        holds.subjects.into(),
        holds.meters.into(),
        period_starts.into(),
        holds.amounts.into(),
        overages.into(),
        holds.created_at.into(),
        holds.expires_at.into(),
    ];
    INSERT_MANY.with(|statement| statement.write(&values, |_| ()));
}
