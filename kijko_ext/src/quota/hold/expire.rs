//! Ends expired holds of one counter.

use pgrx::prelude::*;

use crate::pg::query::Statement;
use crate::quota::meter_key::MeterKey;

thread_local! {
    static EXPIRE: Statement = const { Statement::new(
        "with expired as ( \
             update kijko.holds set state = 'expired', ended_at = $4 \
             where id operator(pg_catalog.=) any (array( \
                 select o.id from kijko.holds as o \
                 where o.subject operator(pg_catalog.=) $1 and o.meter operator(pg_catalog.=) $2 \
                     and o.period_start operator(pg_catalog.=) $3 \
                     and o.state operator(pg_catalog.=) 'open' and o.expires_at operator(pg_catalog.<=) $4 \
                 for update skip locked)) \
             returning amount) \
         select pg_catalog.sum(amount)::pg_catalog.int8 from expired",
        &[pg_sys::UUIDOID, pg_sys::TEXTOID, pg_sys::TIMESTAMPTZOID, pg_sys::TIMESTAMPTZOID],
    ) };
}

/// Marks the counter's expired holds and returns the sum of their amounts. The counter must be pinned: a load after this
/// would not find them any more, and their amounts would be released twice. Skips holds that another transaction is ending.
pub fn expire(key: MeterKey, period_start: i64, now: i64) -> i64 {
    let values = [
        key.subject.into(),
        key.meter.into(),
        period_start.into(),
        now.into(),
    ];
    EXPIRE.with(|statement| statement.write(&values, |rows| rows[0].integer(1).unwrap_or(0)))
}
