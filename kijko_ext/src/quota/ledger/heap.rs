//! Inserts rows without the executor, as COPY does.

use pgrx::prelude::*;

use crate::pg::datum;
use crate::pg::value::Value;

/// Inserts a row and its index entries into an open table.
///
/// # Safety
/// The columns match the table's types, and its indexes are plain ones.
pub unsafe fn insert<const N: usize>(table: pg_sys::Relation, columns: &[Value; N]) {
    unsafe {
        let (mut values, mut nulls) = datum::of_row(columns);
        if (*(*table).rd_att).natts as usize != N {
            error!("a table of kijko does not have the columns that this library was built for");
        }
        let tuple =
            pg_sys::heap_form_tuple((*table).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::CatalogTupleInsert(table, tuple);
        pg_sys::heap_freetuple(tuple);
    }
}
