//! Queries of the extension's own tables, where a scan (scan.rs) will not do. They run as the tables' owner, with a fixed search path and the newest snapshot, so
//! they do not depend on the caller's rights, search path or snapshot. Each backend plans a statement once.

use std::cell::Cell;
use std::ffi::{CStr, CString};

use pgrx::prelude::*;

use super::datum;
use super::value::Value;

/// A statement with its plan.
pub struct Statement {
    sql: &'static str,
    arguments: &'static [pg_sys::Oid],
    plan: Cell<pg_sys::SPIPlanPtr>,
}

/// One row of a result.
pub struct Row {
    table: *mut pg_sys::SPITupleTable,
    at: usize,
}

impl Statement {
    pub const fn new(sql: &'static str, arguments: &'static [pg_sys::Oid]) -> Self {
        Self {
            sql,
            arguments,
            plan: Cell::new(std::ptr::null_mut()),
        }
    }

    /// Reads with the newest snapshot instead of the transaction's own. It stays active while `f` runs.
    pub fn read<R>(&self, values: &[Value], f: impl FnOnce(&[Row]) -> R) -> R {
        self.run(values, true, f)
    }

    /// Writes with the transaction's snapshot, like any of its statements.
    pub fn write<R>(&self, values: &[Value], f: impl FnOnce(&[Row]) -> R) -> R {
        self.run(values, false, f)
    }

    fn run<R>(&self, values: &[Value], read_only: bool, f: impl FnOnce(&[Row]) -> R) -> R {
        as_owner(|| {
            // SAFETY: values and types agree by construction of the callers. An error ends the (sub)transaction,
            // which ends SPI, pops the snapshot and frees everything.
            unsafe {
                if pg_sys::SPI_connect() != pg_sys::SPI_OK_CONNECT as i32 {
                    error!("SPI_connect failed");
                }
                let plan = self.plan();
                // In SPI's own memory, until SPI_finish.
                let datums: Vec<_> = values.iter().map(|value| datum::of(*value)).collect();
                let mut values: Vec<_> = datums
                    .iter()
                    .map(|datum| datum.unwrap_or(pg_sys::Datum::null()))
                    .collect();
                let nulls: Vec<_> = datums
                    .iter()
                    .map(|datum| if datum.is_some() { b' ' } else { b'n' } as i8)
                    .collect();
                if read_only {
                    pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
                }
                let code = pg_sys::SPI_execute_plan(
                    plan,
                    values.as_mut_ptr(),
                    nulls.as_ptr(),
                    read_only,
                    0,
                );
                if code < 0 {
                    error!("a query of kijko's own tables failed with SPI code {code}");
                }
                let table = pg_sys::SPI_tuptable;
                let count = if table.is_null() {
                    0
                } else {
                    pg_sys::SPI_processed as usize
                };
                let rows: Vec<_> = (0..count).map(|at| Row { table, at }).collect();
                let answer = f(&rows);
                if read_only {
                    pg_sys::PopActiveSnapshot();
                }
                pg_sys::SPI_finish();
                answer
            }
        })
    }

    unsafe fn plan(&self) -> pg_sys::SPIPlanPtr {
        if self.plan.get().is_null() {
            let sql = CString::new(self.sql).unwrap_or_default();
            let mut types = self.arguments.to_vec();
            // A generic plan is made once and prunes partitions when it runs.
            let plan = unsafe {
                let options = pg_sys::CURSOR_OPT_GENERIC_PLAN as i32;
                pg_sys::SPI_prepare_cursor(
                    sql.as_ptr(),
                    types.len() as i32,
                    types.as_mut_ptr(),
                    options,
                )
            };
            if plan.is_null() || unsafe { pg_sys::SPI_keepplan(plan) } != 0 {
                error!("a query of kijko's own tables could not be prepared");
            }
            self.plan.set(plan);
        }
        self.plan.get()
    }
}

impl Row {
    /// Column from 1; None for null.
    fn datum(&self, column: i32) -> Option<pg_sys::Datum> {
        let mut null = false;
        // SAFETY: rows are only lent to a closure, and exist while it runs.
        let datum = unsafe {
            let tuple = *(*self.table).vals.add(self.at);
            pg_sys::SPI_getbinval(tuple, (*self.table).tupdesc, column, &mut null)
        };
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
        let datum = self.datum(column)?;
        // SAFETY: only asked of text columns.
        unsafe { String::from_datum(datum, false) }
    }
}

/// A table of the extension, if it is installed in this database.
pub fn find_table(name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: syscache look-ups.
    let table = unsafe {
        let schema = pg_sys::get_namespace_oid(c"kijko".as_ptr(), true);
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    };
    (table != pg_sys::InvalidOid).then_some(table)
}

/// The same; an error when there is no such table.
pub fn table(name: &CStr) -> pg_sys::Oid {
    let Some(table) = find_table(name) else {
        let code = PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
        let message = format!("kijko.{} is missing", name.to_string_lossy());
        ereport!(ERROR, code, message);
    };
    table
}

/// Runs `f` as the tables' owner, as foreign-key checks do, with a search path in which only the owner can create objects.
fn as_owner<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: an error leaves the (sub)transaction, whose end restores the user and the settings.
    unsafe {
        let mut user = pg_sys::InvalidOid;
        let mut context = 0;
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        let restricted =
            pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;
        pg_sys::SetUserIdAndSecContext(owner(), context | restricted as i32);
        let settings = pg_sys::NewGUCNestLevel();
        pg_sys::set_config_option(
            c"search_path".as_ptr(),
            c"pg_catalog, pg_temp".as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
        let answer = f();
        pg_sys::AtEOXact_GUC(false, settings);
        pg_sys::SetUserIdAndSecContext(user, context);
        answer
    }
}

unsafe fn owner() -> pg_sys::Oid {
    unsafe {
        let table = pg_sys::table_open(
            table(c"limits"),
            pg_sys::AccessShareLock as pg_sys::LOCKMODE,
        );
        let owner = (*(*table).rd_rel).relowner;
        pg_sys::table_close(table, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        owner
    }
}
