//! Loads a counter: sums the ledger when the counter is not in shared memory.

use pgrx::prelude::*;

use super::unrolled;
use crate::pg::query::Statement;
use crate::quota::counter::slot::Loaded;
use crate::quota::meter_key::MeterKey;

thread_local! {
    // One row for each partition that is not rolled up. The other columns are the same in all rows.
    static SUM: Statement = const { Statement::new(
        "select (select t.amount from kijko.usage_totals as t \
                 where t.subject operator(pg_catalog.=) $1 and t.meter operator(pg_catalog.=) $2 \
                     and t.period_start operator(pg_catalog.=) $3), \
                h.held, h.next_expiry, \
                (select pg_catalog.sum(case c.threshold when 50 then 1 when 80 then 2 when 100 then 4 end) \
                 from kijko.threshold_crossings as c \
                 where c.subject operator(pg_catalog.=) $1 and c.meter operator(pg_catalog.=) $2 \
                     and c.period_start operator(pg_catalog.=) $3), \
                (select r.rolled_until from kijko.rollup_state as r), p.partition \
         from (select pg_catalog.sum(o.amount)::pg_catalog.int8, pg_catalog.min(o.expires_at) from kijko.holds as o \
               where o.subject operator(pg_catalog.=) $1 and o.meter operator(pg_catalog.=) $2 \
                   and o.period_start operator(pg_catalog.=) $3 and o.state operator(pg_catalog.=) 'open') as h(held, next_expiry) \
         cross join (select pg_catalog.to_regclass(q.partition)::pg_catalog.oid from kijko.ledger_partitions as q \
                     where q.rolled_at is null \
                     union all select 'kijko.ledger_default'::pg_catalog.regclass::pg_catalog.oid) as p(partition)",
        &[pg_sys::UUIDOID, pg_sys::TEXTOID, pg_sys::TIMESTAMPTZOID],
    ) };
}

/// Everything committed for a counter: the rolled-up sum, the rows that are not rolled up yet, and open holds.
pub fn load(key: MeterKey, period_start: i64) -> Loaded {
    let values = [key.subject.into(), key.meter.into(), period_start.into()];
    SUM.with(|statement| {
        statement.read(&values, |rows| {
            let sum = |column| rows[0].integer(column).unwrap_or(0);
            let rolled_until = rows[0].integer(5).unwrap_or(i64::MIN);
            let sums = rows
                .iter()
                .filter_map(|row| row.integer(6))
                .map(|oid| unrolled::sum(pg_sys::Oid::from(oid as u32), &values, rolled_until));
            Loaded {
                used: sums.fold(sum(1).saturating_add(sum(2)), i64::saturating_add),
                next_expiry: rows[0].integer(3).unwrap_or(i64::MAX),
                thresholds: sum(4) as u8,
            }
        })
    })
}
