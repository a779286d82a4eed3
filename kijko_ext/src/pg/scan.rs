//! Reads rows of the extension's own tables by index scans, without a query: this needs neither rights on the table nor a change
//! of user, works in parallel workers, and costs a microsecond.
//!
//! No scan takes predicate locks. In a SERIALIZABLE transaction a scan by a snapshot locks the pages that it reads, on which
//! other tenants have rows, too; two transactions of different tenants would then fail by each other's writes. So a scan
//! takes every version of a row, and then asks whether the snapshot sees it.

use std::ffi::CStr;
use std::ops::ControlFlow;

use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::prelude::*;

use super::datum;
use super::major;
use super::query;
use super::value::Value;

/// Maximum number of columns that a scan compares.
const MAX_KEYS: usize = 4;

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

    /// Where it is.
    pub fn tid(&self) -> pg_sys::ItemPointerData {
        // SAFETY: a row that a scan has found has a place.
        unsafe { (*self.tuple).t_self }
    }

    /// A copy of it, as a value of its table's row type.
    pub fn to_composite(&self) -> pg_sys::Datum {
        // SAFETY: the row and its descriptor belong together. Allocated in the current memory context.
        unsafe { pg_sys::heap_copy_tuple_as_datum(self.tuple, self.descriptor) }
    }

    /// A column from 1. None for null.
    fn datum(&self, column: i32) -> Option<pg_sys::Datum> {
        let mut null = false;
        // SAFETY: the row and its descriptor belong together.
        let datum =
            unsafe { pg_sys::SPI_getbinval(self.tuple, self.descriptor, column, &mut null) };
        (!null).then_some(datum)
    }

    /// A bigint, a smaller integer, an oid or a boolean, or a timestamptz in Postgres microseconds.
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

    pub fn name(&self, column: i32) -> Option<String> {
        // SAFETY: only asked of columns of type name, which ends in a NUL.
        self.datum(column)
            .map(|datum| unsafe { CStr::from_ptr(datum.cast_mut_ptr()) })
            .map(|name| name.to_string_lossy().into_owned())
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

/// A column, from 1, that is compared with a value of its type. Texts are compared in the collation "C".
#[derive(Clone, Copy)]
pub struct ScanKey<'a> {
    column: i16,
    value: Value<'a>,
    strategy: u32,
    compare: u32,
}

impl<'a> ScanKey<'a> {
    /// A column of type uuid, text, bytea or timestamptz, by the value's kind, that equals it. Not null.
    pub fn new(column: i16, value: impl Into<Value<'a>>) -> Self {
        let value = value.into();
        let compare = match value {
            Value::Uuid(_) => pg_sys::F_UUID_EQ,
            Value::Bytes(_) => pg_sys::F_BYTEAEQ,
            Value::Integer(_) => pg_sys::F_TIMESTAMPTZ_EQ,
            Value::Text(_) | Value::Null | Value::Held(_) => pg_sys::F_TEXTEQ,
        };
        Self {
            column,
            value,
            strategy: pg_sys::BTEqualStrategyNumber,
            compare,
        }
    }

    /// A column of type timestamptz that is not later.
    pub fn not_after(column: i16, time: i64) -> Self {
        Self {
            column,
            value: time.into(),
            strategy: pg_sys::BTLessEqualStrategyNumber,
            compare: pg_sys::F_TIMESTAMPTZ_LE,
        }
    }
}

/// Runs `visit` on the rows of an open table that have the keys and that the snapshot sees, until it breaks. By an index in its
/// order.
///
/// # Safety
/// The keys' columns have their values' types. The index has all columns of the keys at its beginning, and every row that
/// counts; without an index the whole table is read. `snapshot` is active, or one that needs not be.
pub unsafe fn visit(
    table: pg_sys::Relation,
    index: Option<pg_sys::Oid>,
    keys: &[ScanKey],
    snapshot: pg_sys::Snapshot,
    mut visit: impl FnMut(&Tuple) -> ControlFlow<()>,
) {
    // SAFETY: an error ends the (sub)transaction, which closes the scan. It does not outlive the keys.
    unsafe {
        let mut scan_keys = [pg_sys::ScanKeyData::default(); MAX_KEYS];
        for (scan_key, key) in scan_keys.iter_mut().zip(keys) {
            pg_sys::ScanKeyInit(
                scan_key,
                key.column,
                key.strategy as pg_sys::StrategyNumber,
                pg_sys::Oid::from(key.compare),
                datum::of(key.value).unwrap_or(pg_sys::Datum::null()),
            );
        }
        let scan = pg_sys::systable_beginscan(
            table,
            index.unwrap_or(pg_sys::InvalidOid),
            index.is_some(),
            &raw mut pg_sys::SnapshotAnyData,
            keys.len() as i32,
            scan_keys.as_mut_ptr(),
        );
        let is_visible = (*(*table).rd_tableam).tuple_satisfies_snapshot;
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            pgrx::check_for_interrupts!();
            let slot = (*scan).slot;
            let visible = pg_guard_ffi_boundary(|| {
                is_visible.is_some_and(|is_visible| is_visible(table, slot, snapshot))
            });
            if visible && visit(&Tuple::new(tuple, (*table).rd_att)).is_break() {
                break;
            }
        }
        pg_sys::systable_endscan(scan);
    }
}

/// The same for a table and an index of the extension, by their names. If somebody has dropped the index, the whole table is
/// read.
///
/// # Safety
/// As for `visit`.
pub unsafe fn visit_own(
    table: &CStr,
    index: &CStr,
    keys: &[ScanKey],
    snapshot: pg_sys::Snapshot,
    body: impl FnMut(&Tuple) -> ControlFlow<()>,
) {
    // SAFETY: the table is open meanwhile.
    unsafe {
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        let table = pg_sys::table_open(query::table(table), lock);
        visit(table, query::find_table(index), keys, snapshot, body);
        pg_sys::table_close(table, lock);
    }
}

/// The row of a table whose primary key has these values, as `read` answers it.
///
/// # Safety
/// The keys are all columns of the primary key, of their values' types. `snapshot` as for `visit`.
pub unsafe fn find<T>(
    table: pg_sys::Oid,
    keys: &[ScanKey],
    snapshot: pg_sys::Snapshot,
    read: impl FnOnce(&Tuple) -> T,
) -> Option<T> {
    let (mut found, mut read) = (None, Some(read));
    // SAFETY: the table is open meanwhile.
    unsafe {
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        let table = pg_sys::table_open(table, lock);
        let index = major::primary_key_index(table);
        let index = (index != pg_sys::InvalidOid).then_some(index);
        visit(table, index, keys, snapshot, |row| {
            found = read.take().map(|read| read(row));
            ControlFlow::Break(())
        });
        pg_sys::table_close(table, lock);
    }
    found
}

/// Runs `body` with the newest snapshot instead of the transaction's own.
pub fn with_latest_snapshot<T>(body: impl FnOnce(pg_sys::Snapshot) -> T) -> T {
    // SAFETY: an error ends the (sub)transaction, which pops the snapshot.
    unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        let answer = body(pg_sys::GetActiveSnapshot());
        pg_sys::PopActiveSnapshot();
        answer
    }
}
