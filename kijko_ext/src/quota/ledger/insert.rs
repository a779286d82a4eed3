//! Inserts a row into a partition of the ledger. Every partition that the extension makes has exactly one index, so the
//! index is looked up once and not for each row. A partition to which an operator has added an index uses heap::insert.

use std::cell::Cell;

use pgrx::prelude::*;

use super::columns::{COLUMNS, COUNTER_KEY};
use super::{heap, unrolled};
use crate::pg::datum;
use crate::pg::value::Value;

const LOCK: pg_sys::LOCKMODE = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
const KEYS: usize = COUNTER_KEY.len();

thread_local! {
    /// The last index that proved to be on the counter's key. Its columns never change.
    static INDEX: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) };
}

/// Functions of Postgres without pgrx's guard around each call: `add` has one guard around all of them.
mod unguarded {
    use pgrx::pg_sys::*;

    unsafe extern "C-unwind" {
        pub fn heap_form_tuple(of: TupleDesc, values: *mut Datum, nulls: *mut bool) -> HeapTuple;
        pub fn heap_freetuple(tuple: HeapTuple);
        pub fn heap_insert(
            table: Relation,
            tuple: HeapTuple,
            command: CommandId,
            options: i32,
            bulk: BulkInsertState,
        );
        #[allow(non_snake_case, reason = "as Postgres calls it")]
        pub fn GetCurrentCommandId(used: bool) -> CommandId;
        #[allow(non_snake_case, reason = "as Postgres calls it")]
        pub fn BuildIndexInfo(index: Relation) -> *mut IndexInfo;
        pub fn index_open(index: Oid, lock: LOCKMODE) -> Relation;
        pub fn index_close(index: Relation, lock: LOCKMODE);
        pub fn index_insert(
            index: Relation,
            values: *mut Datum,
            nulls: *mut bool,
            row: ItemPointer,
            table: Relation,
            unique: IndexUniqueCheck::Type,
            unchanged: bool,
            info: *mut IndexInfo,
        ) -> bool;
    }
}

/// # Safety
/// `table` is an open and locked partition of the ledger, and `columns` are of its types.
pub unsafe fn row(table: pg_sys::Relation, columns: &[Value; COLUMNS]) {
    unsafe {
        match only_index(table) {
            Some(index) if (*(*table).rd_att).natts as usize == COLUMNS => {
                add(table, index, columns)
            }
            _ => heap::insert(table, columns),
        }
    }
}

/// The table's only index, if it is on the counter's key. The caller's lock of the table keeps its indexes as they are.
unsafe fn only_index(table: pg_sys::Relation) -> Option<pg_sys::Oid> {
    unsafe {
        if !(*table).rd_indexvalid {
            pg_sys::list_free(pg_sys::RelationGetIndexList(table));
        }
        let list = (*table).rd_indexlist;
        if list.is_null() || (*list).length != 1 {
            return None;
        }
        let index = (*(*list).elements).oid_value;
        if INDEX.get() != index {
            if !unrolled::is_by_counter(index) {
                return None;
            }
            INDEX.set(index);
        }
        Some(index)
    }
}

unsafe fn add(table: pg_sys::Relation, index: pg_sys::Oid, columns: &[Value; COLUMNS]) {
    // SAFETY: the columns outlive this call.
    let (mut values, mut nulls) = unsafe { datum::of_row(columns) };
    let mut keys = COUNTER_KEY.map(|column| values[column as usize - 1]);
    // SAFETY: nothing in the closure has a destructor. An error ends the (sub)transaction, which closes the index.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            let tuple = unguarded::heap_form_tuple(
                (*table).rd_att,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            let command = unguarded::GetCurrentCommandId(true);
            unguarded::heap_insert(table, tuple, command, 0, std::ptr::null_mut());
            let index = unguarded::index_open(index, LOCK);
            unguarded::index_insert(
                index,
                keys.as_mut_ptr(),
                [false; KEYS].as_mut_ptr(), // a counter's key is never null
                &raw mut (*tuple).t_self,
                table,
                pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO,
                false,
                unguarded::BuildIndexInfo(index),
            );
            unguarded::index_close(index, pg_sys::NoLock as pg_sys::LOCKMODE);
            unguarded::heap_freetuple(tuple);
        });
    }
}
