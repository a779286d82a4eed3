//! Ends expired holds of one counter.

use pgrx::prelude::*;

use super::store;
use crate::pg::datum;
use crate::pg::query::Statement;
use crate::pg::value::{Held, Value};
use crate::quota::meter_key::MeterKey;

thread_local! {
    static EXPIRE: Statement = const { Statement::new(
        "select kijko.expire_holds_at($1, $2)",
        &[pg_sys::TIDARRAYOID, pg_sys::TIMESTAMPTZOID],
    ) };
}

/// Marks the counter's expired holds and returns the sum of their amounts. The counter must be pinned: a load after this
/// would not find them any more, and their amounts would be released twice. Skips holds that another transaction is ending.
pub fn expire(key: MeterKey, period_start: i64, now: i64) -> i64 {
    let mut places = Vec::new();
    // SAFETY: the snapshot need not be active.
    unsafe {
        store::visit_open(key, period_start, store::committed_or_own(), |hold| {
            if hold.expires_at <= now {
                places.push(hold.tid);
            }
        });
    }
    let Some(places) = datum::tids_datum(&places) else {
        return 0;
    };
    // SAFETY: the array is in the memory of the running call.
    let places = Value::Held(unsafe { Held::new(places.value()) });
    EXPIRE.with(|statement| {
        statement.write(&[places, now.into()], |rows| {
            rows[0].integer(1).unwrap_or(0)
        })
    })
}
