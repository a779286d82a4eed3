//! The ledger: one row for every use, written by the caller's transaction straight into the partition of the hour, and
//! summed up when a counter is not in shared memory.
//!
//! A row takes the way of COPY rather than that of INSERT: the tuple, its index entries, WAL, statistics and toast as
//! always, but no query, and so neither permissions nor triggers nor row security, of which the ledger has none.

use std::cell::Cell;

use pgrx::prelude::*;

use super::append;
use super::policy::EPOCH;
use super::slot::Loaded;
use super::tail;
use crate::clock;
use crate::pg::datum;
use crate::pg::query::Statement;

pub const COLUMNS: usize = 13;
const LOCK: pg_sys::LOCKMODE = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;

/// What a row says beside whose it is.
pub struct Entry<'a> {
    pub subject: &'a [u8; 16],
    pub meter: &'a str,
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
    pub attributes: Option<pg_sys::Datum>,
}

/// Where rows of now belong.
#[derive(Clone, Copy)]
struct Route {
    epoch: u64,
    partition: pg_sys::Oid,
    /// From when until when, by the real clock.
    from: i64,
    until: i64,
    /// Rows before this are summed up already: a clock that was set back must not add any.
    rolled_until: i64,
}

thread_local! {
    static ROUTE: Cell<Option<Route>> = const { Cell::new(None) };
    static RANDOM: Cell<[u64; 2]> = const { Cell::new([0; 2]) };
    static FIND_ROUTE: Statement = const { Statement::new(
        "select coalesce(p.partition, 'kijko.ledger_default')::pg_catalog.regclass::pg_catalog.oid, p.starts_at, \
                coalesce(p.ends_at, (select pg_catalog.min(n.starts_at) from kijko.ledger_partitions as n \
                                     where n.starts_at operator(pg_catalog.>) $1)), \
                r.rolled_until \
         from kijko.rollup_state as r \
         left join kijko.ledger_partitions as p \
             on p.starts_at operator(pg_catalog.<=) $1 and p.ends_at operator(pg_catalog.>) $1",
        &[pg_sys::TIMESTAMPTZOID],
    ) };
    // A row for each partition that is not rolled up; what is beside it is the same in all of them.
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

/// Everything committed for a counter: what is rolled up, the short tail that is not yet, and open holds.
pub fn load(subject: &[u8; 16], meter: &str, period_start: i64) -> Loaded {
    let values = [
        Some(datum::uuid_datum(subject)),
        Some(datum::text_datum(meter)),
        Some(pg_sys::Datum::from(period_start)),
    ];
    SUM.with(|statement| {
        statement.read(&values, |rows| {
            let sum = |column| rows[0].integer(column).unwrap_or(0);
            let rolled_until = rows[0].integer(5).unwrap_or(i64::MIN);
            let tails = rows
                .iter()
                .filter_map(|row| row.integer(6))
                .map(|oid| tail::sum(pg_sys::Oid::from(oid as u32), &values, rolled_until));
            Loaded {
                used: tails.fold(sum(1).saturating_add(sum(2)), i64::saturating_add),
                next_expiry: rows[0].integer(3).unwrap_or(i64::MAX),
                crossed: sum(4) as u8,
            }
        })
    })
}

/// Writes one row.
pub fn write(entry: &Entry) {
    // SAFETY: the partition is locked while it is written to; values and columns agree (open checks their number).
    unsafe {
        let (partition, recorded_at) = open();
        let text = |text: Option<&str>| text.map(datum::text_datum);
        let columns: [Option<pg_sys::Datum>; COLUMNS] = [
            Some(datum::uuid_datum(&new_id(recorded_at))),
            Some(datum::uuid_datum(entry.subject)),
            text(Some(entry.meter)),
            Some(pg_sys::Datum::from(entry.period_start)),
            Some(pg_sys::Datum::from(entry.amount)),
            Some(pg_sys::Datum::from(entry.overage)),
            text(Some(entry.kind)),
            Some(pg_sys::Datum::from(entry.occurred_at)),
            Some(pg_sys::Datum::from(recorded_at)),
            text(entry.idempotency_key),
            text(entry.actor),
            text(entry.reason),
            entry.attributes,
        ];
        append::row(partition, &columns);
        pg_sys::table_close(partition, pg_sys::NoLock as pg_sys::LOCKMODE);
    }
}

/// Adds a row and its index entries to an open table.
///
/// # Safety
/// As many columns as the table has, of its types; its indexes are plain ones.
pub unsafe fn insert<const N: usize>(
    table: pg_sys::Relation,
    columns: &[Option<pg_sys::Datum>; N],
) {
    let mut values = columns.map(|column| column.unwrap_or(pg_sys::Datum::null()));
    let mut nulls = columns.map(|column| column.is_none());
    unsafe {
        if (*(*table).rd_att).natts as usize != N {
            error!("a table of kijko has other columns than this library was built for");
        }
        let tuple =
            pg_sys::heap_form_tuple((*table).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::CatalogTupleInsert(table, tuple);
        pg_sys::heap_freetuple(tuple);
    }
}

/// Opens and locks the partition for now, and says which time the row gets. The lock is what a rollup waits for; only
/// the partition is locked, as when a row is inserted into it by name.
unsafe fn open() -> (pg_sys::Relation, i64) {
    loop {
        let now = clock::real_micros();
        let route = match ROUTE.get() {
            Some(route)
                if route.epoch == EPOCH.current() && (route.from..route.until).contains(&now) =>
            {
                route
            }
            _ => find_route(now),
        };
        ROUTE.set(Some(route));
        let partition = unsafe { pg_sys::try_table_open(route.partition, LOCK) };
        // The lock takes in what others committed meanwhile: a partition that was rolled up, detached or dropped
        // while we waited for it is not the right one any more.
        if route.epoch == EPOCH.current() && !partition.is_null() {
            return (partition, now.max(route.rolled_until));
        }
        if !partition.is_null() {
            unsafe { pg_sys::table_close(partition, LOCK) };
        }
    }
}

/// Asks the tables: the partition of now, or the default one until the next partition begins.
fn find_route(now: i64) -> Route {
    let epoch = EPOCH.current();
    let find = |at: i64| {
        FIND_ROUTE.with(|statement| {
            statement.read(&[Some(pg_sys::Datum::from(at))], |rows| Route {
                epoch,
                partition: pg_sys::Oid::from(rows[0].integer(1).unwrap_or(0) as u32),
                from: rows[0].integer(2).unwrap_or(now),
                until: rows[0].integer(3).unwrap_or(i64::MAX),
                rolled_until: rows[0].integer(4).unwrap_or(i64::MIN),
            })
        })
    };
    let route = find(now);
    if route.rolled_until <= now {
        return route;
    }
    // The clock was set back: the row goes where rows are still added, until the clock has caught up.
    Route {
        from: i64::MIN,
        until: route.rolled_until,
        ..find(route.rolled_until)
    }
}

/// A version 7 UUID: milliseconds, a fraction of them in 12 bits, then random bits, which need not be unguessable.
pub fn new_id(at: i64) -> [u8; 16] {
    let mut random = RANDOM.get();
    if random == [0; 2] {
        // SAFETY: writes 16 bytes. Seeded in each backend, not in the postmaster before it forks.
        if !unsafe { pg_sys::pg_strong_random((&raw mut random).cast(), 16) } {
            error!("no random numbers");
        }
    }
    let bits = xoroshiro(&mut random) >> 2;
    RANDOM.set(random);
    let unix = clock::unix_micros(at) as u128;
    let id = (unix / 1_000) << 80
        | 7 << 76
        | (unix % 1_000 * 4_096 / 1_000) << 64
        | 0b10 << 62
        | u128::from(bits);
    id.to_be_bytes()
}

/// xoroshiro128+, by Blackman and Vigna.
fn xoroshiro([a, b]: &mut [u64; 2]) -> u64 {
    let answer = a.wrapping_add(*b);
    *b ^= *a;
    *a = a.rotate_left(24) ^ *b ^ (*b << 16);
    *b = b.rotate_left(37);
    answer
}
