//! Finds one row of a table by its primary key. This is an index scan and no query, so it needs neither rights on the table nor
//! a change of user, works in parallel workers, and costs a microsecond.

use pgrx::prelude::*;

use super::datum;
use super::value::Value;

/// A row, while its scan is open.
pub struct Tuple {
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
}

impl Tuple {
    /// # Safety
    /// Both outlive what is made of them.
    pub unsafe fn new(tuple: pg_sys::HeapTuple, descriptor: pg_sys::TupleDesc) -> Self {
        Self { tuple, descriptor }
    }

    /// A column from 1. None for null.
    fn datum(&self, column: i32) -> Option<pg_sys::Datum> {
        let mut null = false;
        // SAFETY: the row and its descriptor belong together.
        let datum =
            unsafe { pg_sys::SPI_getbinval(self.tuple, self.descriptor, column, &mut null) };
        (!null).then_some(datum)
    }

    /// A bigint, or a timestamptz in Postgres microseconds.
    pub fn integer(&self, column: i32) -> Option<i64> {
        self.datum(column).map(|datum| datum.value() as i64)
    }

    pub fn uuid(&self, column: i32) -> Option<[u8; 16]> {
        // SAFETY: only asked of uuid columns.
        self.datum(column)
            .map(|datum| unsafe { datum.cast_mut_ptr::<[u8; 16]>().read() })
    }

    pub fn text(&self, column: i32) -> Option<String> {
        // SAFETY: only asked of text columns.
        self.datum(column)
            .and_then(|datum| unsafe { String::from_datum(datum, false) })
    }

    /// Without nulls.
    pub fn texts(&self, column: i32) -> Option<Vec<String>> {
        // SAFETY: only asked of columns of type text[].
        let texts = self
            .datum(column)
            .and_then(|datum| unsafe { Vec::<Option<String>>::from_datum(datum, false) })?;
        Some(texts.into_iter().flatten().collect())
    }
}

/// Runs `read` on the row whose primary key is `key`: a value for each of its columns, and the function that compares it.
///
/// # Safety
/// The values are of the columns' types, and not null. Texts are compared in the collation "C". `snapshot` is active, or one
/// that needs not be.
pub unsafe fn find<const N: usize, T>(
    table: pg_sys::Oid,
    key: [(Value, u32); N],
    snapshot: pg_sys::Snapshot,
    read: impl FnOnce(&Tuple) -> T,
) -> Option<T> {
    // SAFETY: the relation is opened with a lock and closed again. An error in between aborts the transaction, which releases
    // both. The scan does not outlive the key.
    unsafe {
        let table = pg_sys::table_open(table, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        let mut scan_keys = [pg_sys::ScanKeyData::default(); N];
        for (at, (value, equals)) in key.into_iter().enumerate() {
            pg_sys::ScanKeyInit(
                &mut scan_keys[at],
                at as i16 + 1,
                pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
                pg_sys::Oid::from(equals),
                datum::of(value).unwrap_or(pg_sys::Datum::null()),
            );
        }
        let index = pg_sys::RelationGetPrimaryKeyIndex(table);
        let scan = pg_sys::systable_beginscan(
            table,
            index,
            true,
            snapshot,
            N as i32,
            scan_keys.as_mut_ptr(),
        );
        let tuple = pg_sys::systable_getnext(scan);
        let found = (!tuple.is_null()).then(|| read(&Tuple::new(tuple, (*table).rd_att)));
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(table, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        found
    }
}
