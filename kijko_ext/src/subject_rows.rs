//! `kijko.find_subject_rows(relation, subject)`: where the rows of a subject are in a table with a column `subject`, as the running
//! statement sees them. A query would take predicate locks in a SERIALIZABLE transaction, on pages where other tenants have
//! rows, too (pg/scan.rs).

use std::ops::ControlFlow;

use pgrx::prelude::*;

use crate::errors;
use crate::pg::scan::{self, ScanKey};
use crate::pg::sql_function::{Answer, Arguments, sql_function};
use crate::pg::{datum, major};

sql_function!(
    kijko_find_subject_rows,
    pg_finfo_kijko_find_subject_rows,
    find_subject_rows
);

const LOCK: pg_sys::LOCKMODE = pg_sys::AccessShareLock as pg_sys::LOCKMODE;

fn find_subject_rows(arguments: Arguments) -> Answer {
    let (Some(relation), Some(subject)) = (arguments.integer(0), arguments.uuid(1)) else {
        return Ok(arguments.null());
    };
    let relation = pg_sys::Oid::from(relation as u32);
    let mut places = Vec::new();
    // SAFETY: the table is open meanwhile, and the column is of type uuid. A statement runs under an active snapshot.
    unsafe {
        let column = pg_sys::get_attnum(relation, c"subject".as_ptr());
        if pg_sys::get_atttype(relation, column) != pg_sys::UUIDOID {
            errors::bad_argument("the table has no subjects");
        }
        let table = pg_sys::table_open(relation, LOCK);
        let index = index_by(table, column);
        let keys = [ScanKey::new(column, &subject)];
        let snapshot = pg_sys::GetActiveSnapshot();
        scan::visit(table, index, &keys, snapshot, |row| {
            places.push(row.tid());
            ControlFlow::Continue(())
        });
        pg_sys::table_close(table, LOCK);
    }
    Ok(datum::tids_datum(&places).unwrap_or_else(|| arguments.null()))
}

/// The index of the primary key, if it begins with the column.
unsafe fn index_by(table: pg_sys::Relation, column: i16) -> Option<pg_sys::Oid> {
    // SAFETY: the table is open, and so is the index while it is read. An index has at least one column.
    unsafe {
        let oid = major::primary_key_index(table);
        if oid == pg_sys::InvalidOid {
            return None;
        }
        let index = pg_sys::index_open(oid, LOCK);
        let first = (*(*index).rd_index).indkey.values.as_slice(1)[0];
        pg_sys::index_close(index, LOCK);
        (first == column).then_some(oid)
    }
}
