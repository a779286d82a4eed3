//! Idempotency keys. The first allowed call under a key is stored for 35 days; the same call again returns its verdict and
//! charges nothing. A refused call is not stored, so that the client can retry it with the same key.

use std::ptr;

use pgrx::prelude::*;

use super::engine::{self, QuotaDecision};
use super::ledger::heap;
use super::lock::{self, Class};
use super::meter_key::MeterKey;
use super::policy::limit_cache::QuotaPolicy;
use crate::pg::datum;
use crate::pg::query;
use crate::pg::sql_function::Refusal;

const COLUMNS: usize = 9;
const LOCK: pg_sys::LOCKMODE = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;

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

/// Locks the key until this transaction ends, then looks it up with the newest snapshot: the first call may have committed
/// after this transaction began.
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
    let columns: [Option<pg_sys::Datum>; COLUMNS] = [
        Some(datum::uuid_datum(meter_key.subject)),
        Some(datum::text_datum(meter_key.meter)),
        Some(datum::text_datum(key)),
        Some(pg_sys::Datum::from(amount)),
        Some(pg_sys::Datum::from(unsafe {
            pg_sys::GetCurrentTransactionStartTimestamp()
        })),
        verdict.is_over.then(|| datum::text_datum("quota_exceeded")),
        verdict.used.map(pg_sys::Datum::from),
        verdict.limit.map(pg_sys::Datum::from),
        verdict.reset_at.map(pg_sys::Datum::from),
    ];
    // SAFETY: the columns of kijko.idempotency_keys (api/consume.sql).
    unsafe {
        let table = pg_sys::table_open(query::table(c"idempotency_keys"), LOCK);
        heap::insert(table, &columns);
        pg_sys::table_close(table, pg_sys::NoLock as pg_sys::LOCKMODE);
    }
}

/// The amount and the verdict stored under a key: one probe of the primary key.
fn find(meter_key: MeterKey, key: &str) -> Option<(i64, Recorded)> {
    // SAFETY: relation, snapshot and scan are closed; an error in between ends the (sub)transaction, which releases them.
    // The keys have the columns' types and collation ("C", as ScanKeyInit assumes).
    unsafe {
        let table = pg_sys::table_open(query::table(c"idempotency_keys"), LOCK);
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        let mut keys = [pg_sys::ScanKeyData::default(); 3];
        let equal = pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber;
        let (uuid_eq, text_eq) = (
            pg_sys::Oid::from(pg_sys::F_UUID_EQ),
            pg_sys::Oid::from(pg_sys::F_TEXTEQ),
        );
        pg_sys::ScanKeyInit(
            &mut keys[0],
            1,
            equal,
            uuid_eq,
            datum::uuid_datum(meter_key.subject),
        );
        pg_sys::ScanKeyInit(
            &mut keys[1],
            2,
            equal,
            text_eq,
            datum::text_datum(meter_key.meter),
        );
        pg_sys::ScanKeyInit(&mut keys[2], 3, equal, text_eq, datum::text_datum(key));
        let index = pg_sys::RelationGetPrimaryKeyIndex(table);
        let scan = pg_sys::systable_beginscan(table, index, true, snapshot, 3, keys.as_mut_ptr());
        let row = ptr::NonNull::new(pg_sys::systable_getnext(scan)).map(|tuple| {
            let mut values = [pg_sys::Datum::null(); COLUMNS];
            let mut nulls = [false; COLUMNS];
            pg_sys::heap_deform_tuple(
                tuple.as_ptr(),
                (*table).rd_att,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            let integer = |at: usize| (!nulls[at]).then(|| values[at].value() as i64);
            let verdict = Recorded {
                is_over: !nulls[5],
                used: integer(6),
                limit: integer(7),
                reset_at: integer(8),
            };
            (integer(3).unwrap_or(0), verdict)
        });
        pg_sys::systable_endscan(scan);
        pg_sys::UnregisterSnapshot(snapshot);
        pg_sys::table_close(table, pg_sys::NoLock as pg_sys::LOCKMODE);
        row
    }
}
