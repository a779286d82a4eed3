//! The rows of a counter that are not rolled up yet, in one partition of the ledger.
//!
//! Read without the planner: a plan over the whole ledger would open and lock every attached partition, more than a
//! hundred, and every backend would make its own plan.

use std::ops::ControlFlow;

use pgrx::prelude::*;

use super::columns::{AMOUNT, COUNTER_KEY, RECORDED_AT, TYPES};
use crate::pg::scan::{self, ScanKey};
use crate::pg::{insert, major};

const LOCK: pg_sys::LOCKMODE = pg_sys::AccessShareLock as pg_sys::LOCKMODE;

/// The sum of a counter's rows that the active snapshot sees and that were recorded at `since` or later. A rollup of the
/// partition, or a move of its rows, does not change what the snapshot sees.
pub fn sum(partition: pg_sys::Oid, keys: &[ScanKey; 3], since: i64) -> i64 {
    // SAFETY: an error in between ends the (sub)transaction, which closes the relation. The keys have the columns' types.
    unsafe {
        let table = pg_sys::try_table_open(partition, LOCK);
        if table.is_null() {
            return 0; // dropped by hand
        }
        check_types(table);
        let mut sum = 0_i64;
        let snapshot = pg_sys::GetActiveSnapshot();
        scan::visit(table, index(table), keys, snapshot, |row| {
            // Neither is null.
            if row.integer(RECORDED_AT) >= Some(since) {
                sum = sum.saturating_add(row.integer(AMOUNT).unwrap_or(0));
            }
            ControlFlow::Continue(())
        });
        pg_sys::table_close(table, LOCK);
        sum
    }
}

/// Whether the active snapshot sees rows of a subject.
pub fn has_rows(partition: pg_sys::Oid, subject: &[u8; 16]) -> bool {
    let keys = [ScanKey::new(COUNTER_KEY[0], subject)];
    let mut found = false;
    // SAFETY: as in sum().
    unsafe {
        let table = pg_sys::try_table_open(partition, LOCK);
        if table.is_null() {
            return false; // dropped by hand
        }
        check_types(table);
        let snapshot = pg_sys::GetActiveSnapshot();
        scan::visit(table, index(table), &keys, snapshot, |_| {
            found = true;
            ControlFlow::Break(())
        });
        pg_sys::table_close(table, LOCK);
    }
    found
}

/// The partition's index on the counter's key.
unsafe fn index(table: pg_sys::Relation) -> Option<pg_sys::Oid> {
    unsafe {
        let list = pg_sys::RelationGetIndexList(table);
        pgrx::PgList::<pg_sys::Oid>::from_pg(list)
            .iter_oid()
            .find(|index| is_by_counter(*index))
    }
}

/// Whether an index has every row, and finds it by the counter's key as a scan compares it.
unsafe fn is_by_counter(index: pg_sys::Oid) -> bool {
    // uuid_ops, text_ops and datetime_ops, whose numbers pg_opfamily.dat fixes.
    const FAMILIES: [u32; 3] = [2968, 1994, 434];
    unsafe {
        let index = pg_sys::index_open(index, LOCK);
        let form = (*index).rd_index;
        let columns = (*form).indkey.values.as_slice((*form).indnatts as usize);
        let found = (*form).indisvalid
            && insert::is_without(index, pg_sys::Anum_pg_index_indpred)
            && (*(*index).rd_rel).relam == pg_sys::BTREE_AM_OID
            && columns == COUNTER_KEY
            && *(*index).rd_indcollation.add(1) == pg_sys::C_COLLATION_OID
            && (0..FAMILIES.len())
                .all(|at| *(*index).rd_opfamily.add(at) == pg_sys::Oid::from(FAMILIES[at]));
        pg_sys::index_close(index, LOCK);
        found
    }
}

/// An error when somebody has changed the types of the columns that a sum needs.
unsafe fn check_types(table: pg_sys::Relation) {
    // SAFETY: an open table has a descriptor.
    let fit = unsafe {
        let columns = major::columns((*table).rd_att);
        let is = |at: i32| {
            columns.get(at as usize - 1).map(|column| column.atttypid)
                == Some(TYPES[at as usize - 1])
        };
        COUNTER_KEY.iter().all(|at| is((*at).into())) && is(AMOUNT) && is(RECORDED_AT)
    };
    if !fit {
        error!("the ledger does not have the columns that this library was built for");
    }
}
