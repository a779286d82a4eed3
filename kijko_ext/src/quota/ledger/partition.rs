//! The partition of the ledger for rows recorded now.

use std::cell::Cell;

use pgrx::prelude::*;

use crate::clock;
use crate::pg::cache_stamp::{self, CacheKind};
use crate::pg::query::Statement;

const LOCK: pg_sys::LOCKMODE = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;

/// A partition, and when rows go there.
#[derive(Clone, Copy)]
struct Route {
    stamp: u64,
    partition: pg_sys::Oid,
    /// By the real clock.
    from: i64,
    until: i64,
    /// Rows recorded before this are rolled up already, or will be a partition of their own. A clock that was set back must not
    /// add to them.
    recorded_from: i64,
    /// The default partition takes no rows from this time on (kijko.ledger_default_bounds).
    recorded_until: i64,
    /// The ledger as a whole has triggers or rules. Those of a partition are found in the partition.
    needs_query: bool,
}

/// An open and locked partition, and the row that goes there.
pub struct Partition {
    pub table: pg_sys::Relation,
    pub recorded_at: i64,
    pub needs_query: bool,
}

thread_local! {
    static ROUTE: Cell<Option<Route>> = const { Cell::new(None) };
    static FIND_ROUTE: Statement = const { Statement::new(
        "select coalesce(p.partition, 'kijko.ledger_default')::pg_catalog.regclass::pg_catalog.oid, p.starts_at, \
                coalesce(p.ends_at, (select pg_catalog.min(n.starts_at) from kijko.ledger_partitions as n \
                                     where n.starts_at operator(pg_catalog.>) $1)), \
                greatest(r.rolled_until, b.recorded_from), \
                (select (c.relhastriggers or c.relhasrules)::pg_catalog.int4::pg_catalog.int8 from pg_catalog.pg_class as c \
                 where c.oid operator(pg_catalog.=) 'kijko.ledger'::pg_catalog.regclass), \
                case when p.partition is null then b.recorded_until end \
         from kijko.rollup_state as r cross join kijko.ledger_default_bounds as b \
         left join kijko.ledger_partitions as p \
             on p.starts_at operator(pg_catalog.<=) $1 and p.ends_at operator(pg_catalog.>) $1",
        &[pg_sys::TIMESTAMPTZOID],
    ) };
}

/// Opens and locks the partition for a row recorded now. A rollup waits for this lock.
///
/// # Safety
/// In a transaction. The caller closes the relation and keeps the lock.
pub unsafe fn open() -> Partition {
    loop {
        let now = clock::real_micros();
        let route = match ROUTE.get() {
            Some(route) if route.is_valid() && (route.from..route.until).contains(&now) => route,
            _ => find_route(now),
        };
        ROUTE.set(Some(route));
        let partition = unsafe { pg_sys::try_table_open(route.partition, LOCK) };
        // Taking the lock processed pending invalidations. If the partition was rolled up, detached or dropped during the
        // wait, the route is invalid, and the row belongs elsewhere.
        if route.is_valid() && !partition.is_null() {
            return Partition {
                table: partition,
                recorded_at: now.max(route.recorded_from).min(route.recorded_until - 1),
                needs_query: route.needs_query,
            };
        }
        if !partition.is_null() {
            unsafe { pg_sys::table_close(partition, LOCK) };
        }
    }
}

impl Route {
    fn is_valid(&self) -> bool {
        cache_stamp::is_valid(self.stamp, CacheKind::LedgerPartitions.whole())
    }
}

/// Reads the route from the tables: the partition of now, or the default one until the next partition begins.
fn find_route(now: i64) -> Route {
    let stamp = cache_stamp::take();
    let find = |at: i64| {
        FIND_ROUTE.with(|statement| {
            statement.read(&[at.into()], |rows| Route {
                stamp,
                partition: pg_sys::Oid::from(rows[0].integer(1).unwrap_or(0) as u32),
                from: rows[0].integer(2).unwrap_or(now),
                until: rows[0].integer(3).unwrap_or(i64::MAX),
                recorded_from: rows[0].integer(4).unwrap_or(i64::MIN),
                needs_query: rows[0].integer(5) == Some(1),
                recorded_until: rows[0].integer(6).unwrap_or(i64::MAX),
            })
        })
    };
    let route = find(now);
    if route.recorded_from <= now {
        return route;
    }
    // The clock was set back. The row goes to the first partition that takes it, until the clock has caught up.
    Route {
        from: i64::MIN,
        until: route.recorded_from,
        ..find(route.recorded_from)
    }
}
