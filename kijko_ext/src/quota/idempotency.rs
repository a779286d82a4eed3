//! Idempotency keys. The first allowed call under a key is stored for 35 days; the same call again returns its verdict and
//! charges nothing. A refused call is not stored, so that the client can retry it with the same key.

use pgrx::prelude::*;

use super::engine::{self, QuotaDecision};
use super::lock::{self, Class};
use super::meter_key::MeterKey;
use super::policy::limit_cache::QuotaPolicy;
use crate::pg::insert::PlainTable;
use crate::pg::plain_calls;
use crate::pg::query::{self, Statement};
use crate::pg::scan::{self, ScanKey, Tuple};
use crate::pg::sql_function::Refusal;
use crate::pg::value::Value;

const COLUMNS: usize = 9;
const TYPES: [pg_sys::Oid; COLUMNS] = [
    pg_sys::UUIDOID,
    pg_sys::TEXTOID,
    pg_sys::TEXTOID,
    pg_sys::INT8OID,
    pg_sys::TIMESTAMPTZOID,
    pg_sys::TEXTOID,
    pg_sys::INT8OID,
    pg_sys::INT8OID,
    pg_sys::TIMESTAMPTZOID,
];
const LOCK: pg_sys::LOCKMODE = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;

thread_local! {
    // `lock` has checked the length of the key.
    static PLAIN: PlainTable<COLUMNS> = const { PlainTable::new(TYPES, &[c"idempotency_keys_key_check"]) };
    static INSERT: Statement = const { Statement::new(
        "insert into kijko.idempotency_keys (subject, meter, key, amount, created_at, code, used, \"limit\", reset_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        &TYPES,
    ) };
}

/// The verdict of the first call.
#[derive(Clone, Copy, Debug)]
pub struct Recorded {
    pub used: Option<i64>,
    pub limit: Option<i64>,
    pub reset_at: Option<i64>,
    pub is_over: bool,
}

/// The verdict to store for an allowed call.
pub fn recorded(policy: &QuotaPolicy, decision: &QuotaDecision) -> Recorded {
    Recorded {
        used: Some(decision.used),
        limit: policy.limit,
        reset_at: engine::reset_at(policy),
        is_over: decision.is_over(),
    }
}

/// Checks a key, and locks it until this transaction ends.
pub fn lock(class: Class, meter_key: MeterKey, key: &str) -> Result<(), Refusal> {
    if key.is_empty() || key.chars().count() > 255 {
        return Err(Refusal::invalid(
            "an idempotency key has 1 to 255 characters",
        ));
    }
    lock::exclusive(class, meter_key.subject, &[meter_key.meter, key]);
    Ok(())
}

/// Locks the key until this transaction ends, then looks it up.
pub fn begin(meter_key: MeterKey, key: &str, amount: i64) -> Result<Option<Recorded>, Refusal> {
    lock(Class::IdempotencyKey, meter_key, key)?;
    match find(meter_key, key) {
        Some((known, _)) if known != amount => Err(Refusal::new(
            "idempotency_conflict",
            &format!("this key charged {known} {}, not {amount}", meter_key.meter),
            None,
        )),
        Some((_, recorded)) => Ok(Some(recorded)),
        None => Ok(None),
    }
}

/// Stores an allowed call. `begin` has locked the key and found it free.
pub fn record(meter_key: MeterKey, key: &str, amount: i64, verdict: Recorded) {
    let columns: [Value; COLUMNS] = [
        meter_key.subject.into(),
        meter_key.meter.into(),
        key.into(),
        amount.into(),
        // SAFETY: reads a variable.
        plain_calls::GetCurrentTransactionStartTimestamp().into(),
        verdict.is_over.then_some("quota_exceeded").into(),
        verdict.used.into(),
        verdict.limit.into(),
        verdict.reset_at.into(),
    ];
    // SAFETY: the columns of kijko.idempotency_keys (api/consume.sql).
    unsafe {
        let table = pg_sys::table_open(query::table(c"idempotency_keys"), LOCK);
        let inserted = PLAIN.with(|plain| plain.insert(table, &columns));
        pg_sys::table_close(table, pg_sys::NoLock as pg_sys::LOCKMODE);
        if !inserted {
            INSERT.with(|statement| statement.write(&columns, |_| ()));
        }
    }
}

/// Columns of kijko.idempotency_keys that a verdict needs.
mod column {
    pub const AMOUNT: i32 = 4;
    pub const CODE: i32 = 6;
    pub const USED: i32 = 7;
    pub const LIMIT: i32 = 8;
    pub const RESET_AT: i32 = 9;
}

/// The amount and the verdict stored under a key: one probe of the primary key. No snapshot of the transaction will do. It may
/// be older than the first call's commit, and does not show what the running statement itself has stored.
fn find(meter_key: MeterKey, key: &str) -> Option<(i64, Recorded)> {
    let keys = [
        ScanKey::new(1, meter_key.subject),
        ScanKey::new(2, meter_key.meter),
        ScanKey::new(3, key),
    ];
    let read = |row: &Tuple| {
        let verdict = Recorded {
            is_over: row.text(column::CODE).is_some(),
            used: row.integer(column::USED),
            limit: row.integer(column::LIMIT),
            reset_at: row.integer(column::RESET_AT),
        };
        (row.integer(column::AMOUNT).unwrap_or(0), verdict)
    };
    // SAFETY: the types of the primary key. The snapshot is a constant of Postgres.
    unsafe {
        let committed_or_own = &raw mut pg_sys::SnapshotSelfData;
        let table = query::table(c"idempotency_keys");
        scan::find(table, &keys, committed_or_own, read)
    }
}
