//! The rows of a counter that are not rolled up yet, in one partition of the ledger.
//!
//! Read without the planner: a plan over the whole ledger would open and lock every attached partition, more than a
//! hundred, and every backend would make its own plan.

use std::ptr;

use pgrx::prelude::*;

use super::columns::{AMOUNT, COUNTER_KEY, RECORDED_AT, TYPES};
use crate::pg::primary_key::Tuple;
use crate::pg::value::Value;
use crate::pg::{datum, insert};

const LOCK: pg_sys::LOCKMODE = pg_sys::AccessShareLock as pg_sys::LOCKMODE;

/// The sum of a counter's rows that the active snapshot sees and that were recorded at `since` or later. A rollup of the
/// partition, or a move of its rows, does not change what the snapshot sees.
pub fn sum(partition: pg_sys::Oid, key: &[Value; 3], since: i64) -> i64 {
    // SAFETY: relation and scan are closed; an error in between ends the (sub)transaction, which releases them. The keys
    // have the columns' types and collation ("C", as ScanKeyInit assumes).
    unsafe {
        let table = pg_sys::try_table_open(partition, LOCK);
        if table.is_null() {
            return 0; // dropped by hand
        }
        check_types(table);
        let mut keys = scan_keys(key);
        let index = index(table);
        let scan = pg_sys::systable_beginscan(
            table,
            index,
            index != pg_sys::InvalidOid, // without one, row by row
            pg_sys::GetActiveSnapshot(),
            COUNTER_KEY.len() as i32,
            keys.as_mut_ptr(),
        );
        let mut sum = 0_i64;
        while let Some(row) = ptr::NonNull::new(pg_sys::systable_getnext(scan)) {
            pgrx::check_for_interrupts!();
            let row = Tuple::new(row.as_ptr(), (*table).rd_att);
            // Neither is null.
            if row.integer(RECORDED_AT) >= Some(since) {
                sum = sum.saturating_add(row.integer(AMOUNT).unwrap_or(0));
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(table, LOCK);
        sum
    }
}

unsafe fn scan_keys(key: &[Value; 3]) -> [pg_sys::ScanKeyData; 3] {
    const EQUAL: [u32; 3] = [
        pg_sys::F_UUID_EQ,
        pg_sys::F_TEXTEQ,
        pg_sys::F_TIMESTAMPTZ_EQ,
    ];
    let mut keys = [pg_sys::ScanKeyData::default(); 3];
    for (at, entry) in keys.iter_mut().enumerate() {
        let equal = pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber;
        // SAFETY: the functions compare the columns' types. The scan does not outlive the key.
        unsafe {
            let value = datum::of(key[at]).unwrap_or(pg_sys::Datum::null());
            pg_sys::ScanKeyInit(
                entry,
                COUNTER_KEY[at],
                equal,
                pg_sys::Oid::from(EQUAL[at]),
                value,
            );
        }
    }
    keys
}

/// The partition's index on the counter's key.
unsafe fn index(table: pg_sys::Relation) -> pg_sys::Oid {
    unsafe {
        let list = pg_sys::RelationGetIndexList(table);
        let found = pgrx::PgList::<pg_sys::Oid>::from_pg(list)
            .iter_oid()
            .find(|index| is_by_counter(*index));
        found.unwrap_or(pg_sys::InvalidOid)
    }
}

/// Whether an index has every row, and finds it by the counter's key as `scan_keys` compares it.
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
        let columns = (*(*table).rd_att)
            .attrs
            .as_slice((*(*table).rd_att).natts as usize);
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
