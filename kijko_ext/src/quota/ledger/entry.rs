//! An entry of the ledger: one row for each use, written by the caller's transaction straight into the partition of the
//! hour.
//!
//! While the ledger is as the extension made it, that needs no query (pg/insert.rs). If an operator has added a trigger, a
//! constraint, a column or an unusual index, the entry is written by one.

use std::cell::Cell;

use pgrx::prelude::*;

use super::columns::{COLUMNS, TYPES};
use super::partition::{self, Partition};
use crate::errors;
use crate::pg::insert::PlainTable;
use crate::pg::query::Statement;
use crate::pg::random;
use crate::pg::value::{Held, Value};
use crate::quota::meter_key::MeterKey;
use crate::uuid7;

/// The columns of a row, without its id and the time of its recording.
pub struct LedgerEntry<'a> {
    pub key: MeterKey<'a>,
    /// Postgres microseconds.
    pub period_start: i64,
    pub amount: i64,
    /// The part of the amount that lies above the limit.
    pub overage: i64,
    pub kind: &'static str,
    pub occurred_at: i64,
    pub idempotency_key: Option<&'a str>,
    pub actor: Option<&'a str>,
    pub reason: Option<&'a str>,
    /// A jsonb datum.
    pub attributes: Option<Held<'a>>,
}

thread_local! {
    static RANDOM: Cell<[u64; 2]> = const { Cell::new([0; 2]) };
    static PLAIN: PlainTable<COLUMNS> = const { PlainTable::new(TYPES, &[]) };
    // The default partition, while it has bounds. The route has heeded them (partition.rs).
    static BOUNDED: PlainTable<COLUMNS> = const { PlainTable::new(TYPES, &[c"ledger_default_bounds"]) };
    // Returns whether the row is the one that was to be written: a trigger may have changed or dropped it.
    static INSERT: Statement = const { Statement::new(
        "insert into kijko.ledger (id, subject, meter, period_start, amount, overage, kind, occurred_at, recorded_at, \
             idempotency_key, actor, reason, attributes) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
         returning (subject operator(pg_catalog.=) $2 and meter operator(pg_catalog.=) $3 \
             and period_start operator(pg_catalog.=) $4 and amount operator(pg_catalog.=) $5 \
             and recorded_at operator(pg_catalog.=) $9)::pg_catalog.int4::pg_catalog.int8",
        &TYPES,
    ) };
}

/// Writes one row.
pub fn write(entry: &LedgerEntry) {
    // SAFETY: the partition is open and locked, and the columns are the ledger's. It is closed again; an error closes it, too.
    unsafe {
        let Partition {
            table,
            recorded_at,
            needs_query,
        } = partition::open();
        let id = new_id(recorded_at);
        let columns: [Value; COLUMNS] = [
            (&id).into(),
            entry.key.subject.into(),
            entry.key.meter.into(),
            entry.period_start.into(),
            entry.amount.into(),
            entry.overage.into(),
            entry.kind.into(),
            entry.occurred_at.into(),
            recorded_at.into(),
            entry.idempotency_key.into(),
            entry.actor.into(),
            entry.reason.into(),
            entry.attributes.into(),
        ];
        let inserted = !needs_query
            && [&PLAIN, &BOUNDED]
                .iter()
                .any(|plain| plain.with(|plain| plain.insert(table, &columns)));
        pg_sys::table_close(table, pg_sys::NoLock as pg_sys::LOCKMODE);
        if !inserted {
            insert_by_query(&columns);
        }
    }
}

/// An entry that is not in the ledger, or another one, would make the counter forget or invent a use when it is loaded again.
fn insert_by_query(columns: &[Value; COLUMNS]) {
    let as_given = INSERT.with(|statement| {
        statement.write(columns, |rows| {
            rows.first().and_then(|row| row.integer(1)) == Some(1)
        })
    });
    if !as_given {
        errors::raise(
            PgSqlErrorCode::ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION,
            "a trigger of kijko.ledger dropped or changed an entry",
            None,
            Some(
                "Triggers of the ledger must leave subject, meter, period_start, amount and recorded_at as they are.",
            ),
        );
    }
}

/// A UUID whose random bits need not be unpredictable.
pub fn new_id(at: i64) -> [u8; 16] {
    let mut random = RANDOM.get();
    if random == [0; 2] {
        random = random::words(); // each backend its own
    }
    let bits = xoroshiro(&mut random);
    RANDOM.set(random);
    uuid7::new(at, bits)
}

/// xoroshiro128+, by Blackman and Vigna.
fn xoroshiro([a, b]: &mut [u64; 2]) -> u64 {
    let answer = a.wrapping_add(*b);
    *b ^= *a;
    *a = a.rotate_left(24) ^ *b ^ (*b << 16);
    *b = b.rotate_left(37);
    answer
}
