//! The rows of `kijko.holds` that `kijko.reserve` reads and writes.

use pgrx::prelude::*;

use crate::errors;
use crate::pg::query::Statement;
use crate::quota::meter_key::MeterKey;

thread_local! {
    static FIND: Statement = const { Statement::new(
        "select o.id, o.amount, \
             case when o.state operator(pg_catalog.=) 'settled' \
                 or o.state operator(pg_catalog.=) 'open' and o.expires_at operator(pg_catalog.>) $4 then 1::pg_catalog.int8 end \
         from kijko.holds as o \
         where o.subject operator(pg_catalog.=) $1 and o.meter operator(pg_catalog.=) $2 \
             and o.idempotency_key operator(pg_catalog.=) $3",
        &[pg_sys::UUIDOID, pg_sys::TEXTOID, pg_sys::TEXTOID, pg_sys::TIMESTAMPTZOID],
    ) };
    // An open hold of the current period continues with the new time. A hold that was settled meanwhile keeps its key. Any
    // other gives its key up: it was released, it expired, or it belongs to a former period, which has a limit of its own.
    static EXTEND: Statement = const { Statement::new(
        "update kijko.holds as o set \
             expires_at = case when o.state operator(pg_catalog.=) 'open' and o.period_start operator(pg_catalog.=) $3 \
                 then $2 else o.expires_at end, \
             idempotency_key = case when o.state operator(pg_catalog.=) 'settled' \
                 or o.state operator(pg_catalog.=) 'open' and o.period_start operator(pg_catalog.=) $3 then o.idempotency_key end \
         where o.id operator(pg_catalog.=) $1 \
         returning case when o.idempotency_key is null then 1::pg_catalog.int8 end",
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

pub fn find(key: MeterKey, idempotency_key: &str, now: i64) -> Option<Found> {
    let values = [
        key.subject.into(),
        key.meter.into(),
        idempotency_key.into(),
        now.into(),
    ];
    FIND.with(|statement| {
        statement.read(&values, |rows| {
            let row = rows.first()?;
            Some(Found {
                id: row.uuid(1)?,
                amount: row.integer(2).unwrap_or(0),
                is_current: row.integer(3).is_some(),
            })
        })
    })
}

/// Extends an expired hold that no transaction has ended yet. True when its key is free instead.
pub fn extend(id: &[u8; 16], expires_at: i64, period_start: i64) -> bool {
    let values = [id.into(), expires_at.into(), period_start.into()];
    let free = EXTEND.with(|statement| {
        statement.write(&values, |rows| {
            rows.first().map(|row| row.integer(1).is_some())
        })
    });
    free.unwrap_or_else(|| {
        errors::raise(
            PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
            "the hold of this key was made after this transaction began, and has ended",
            None,
            Some("Retry the transaction."),
        )
    })
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
