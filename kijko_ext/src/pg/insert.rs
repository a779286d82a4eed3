//! Inserts rows of the extension's own tables.
//!
//! A row of a plain table is inserted as COPY inserts it: tuple, index entries, WAL, statistics and TOAST, but without a query.
//! An operator may add an index, a constraint, a trigger or a column to such a table. Then the table is not plain any more, and
//! the caller inserts by a query, which does all of that. So nothing is skipped, and only what was added costs anything.

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::prelude::*;

use super::datum;
use super::major;
use super::value::Value;

const LOCK: pg_sys::LOCKMODE = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
const MAX_INDEXES: usize = 4;
const MAX_KEYS: usize = pg_sys::INDEX_MAX_KEYS as usize;

/// What a table of N columns is while nobody has changed it.
pub struct PlainTable<const N: usize> {
    types: [pg_sys::Oid; N],
    /// The names of its checks. The caller has checked the same.
    checks: &'static [&'static CStr],
    /// The indexes that proved to be plain. What makes one plain never changes.
    proved: Cell<Indexes>,
}

/// Functions of Postgres without pgrx's guard around each call: `insert` has one guard around all of them.
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

/// Plain indexes of a table, and what Postgres wants to know of each at an insertion, which this process makes once.
#[derive(Clone, Copy)]
struct Indexes {
    oids: [pg_sys::Oid; MAX_INDEXES],
    infos: [*mut pg_sys::IndexInfo; MAX_INDEXES],
    count: usize,
}

impl Indexes {
    const NONE: Self = Self {
        oids: [pg_sys::InvalidOid; MAX_INDEXES],
        infos: [std::ptr::null_mut(); MAX_INDEXES],
        count: 0,
    };
}

impl<const N: usize> PlainTable<N> {
    pub const fn new(types: [pg_sys::Oid; N], checks: &'static [&'static CStr]) -> Self {
        Self {
            types,
            checks,
            proved: Cell::new(Indexes::NONE),
        }
    }

    /// Inserts a row. False, and nothing inserted, when the table is not plain.
    ///
    /// # Safety
    /// The table is open and locked, and the columns are of the types given to `new`.
    pub unsafe fn insert(&self, table: pg_sys::Relation, columns: &[Value; N]) -> bool {
        unsafe {
            let nulls = columns.map(|column| matches!(column, Value::Null));
            if !self.fits(table, &nulls) {
                return false;
            }
            let Some(indexes) = self.indexes(table) else {
                return false;
            };
            insert(table, columns, &indexes);
            true
        }
    }

    /// Whether the table itself is plain and takes nulls where the row has them.
    unsafe fn fits(&self, table: pg_sys::Relation, nulls: &[bool; N]) -> bool {
        unsafe {
            let (class, descriptor) = ((*table).rd_rel, (*table).rd_att);
            let is_table = (*class).relkind as u8 == pg_sys::RELKIND_RELATION
                && (*class).relam == pg_sys::HEAP_TABLE_AM_OID
                && (*table).trigdesc.is_null();
            if !is_table || (*descriptor).natts as usize != N {
                return false;
            }
            let columns = major::columns(descriptor);
            let fit = columns.iter().zip(&self.types).zip(nulls);
            let mut fit = fit.map(|((column, of), null)| {
                column.atttypid == *of && !column.attisdropped && !(column.attnotnull && *null)
            });
            fit.all(|fits| fits) && self.has_own_checks((*descriptor).constr)
        }
    }

    unsafe fn has_own_checks(&self, constraints: *const pg_sys::TupleConstr) -> bool {
        unsafe {
            if constraints.is_null() {
                return self.checks.is_empty();
            }
            !major::has_generated_columns(constraints)
                && usize::from((*constraints).num_check) == self.checks.len()
                && self.checks.iter().enumerate().all(|(at, name)| {
                    CStr::from_ptr((*(*constraints).check.add(at)).ccname) == *name
                })
        }
    }

    /// The table's indexes, if all of them are plain. The caller's lock of the table keeps them as they are.
    unsafe fn indexes(&self, table: pg_sys::Relation) -> Option<Indexes> {
        unsafe {
            if !(*table).rd_indexvalid {
                pg_sys::list_free(pg_sys::RelationGetIndexList(table));
            }
            let list = (*table).rd_indexlist;
            if list.is_null() {
                return Some(Indexes::NONE);
            }
            let count = (*list).length as usize;
            if count > MAX_INDEXES {
                return None;
            }
            let mut oids = [pg_sys::InvalidOid; MAX_INDEXES];
            for (at, index) in oids[..count].iter_mut().enumerate() {
                *index = (*(*list).elements.add(at)).oid_value;
            }
            if self.proved.get().oids != oids {
                if !oids[..count].iter().all(|index| is_plain(*index)) {
                    return None;
                }
                self.prove(oids, count);
            }
            Some(self.proved.get())
        }
    }

    unsafe fn prove(&self, oids: [pg_sys::Oid; MAX_INDEXES], count: usize) {
        let former = self.proved.replace(Indexes::NONE);
        let mut indexes = Indexes {
            oids,
            count,
            ..Indexes::NONE
        };
        for (info, index) in indexes.infos.iter_mut().zip(&oids[..count]) {
            // SAFETY: the index is one of the locked table.
            *info = unsafe { info_of(*index) };
        }
        self.proved.set(indexes);
        for info in &former.infos[..former.count] {
            // SAFETY: made by info_of, and in use nowhere else.
            unsafe { pg_sys::pfree(info.cast()) };
        }
    }
}

/// What Postgres wants to know of a plain index, for the rest of the process. Without expressions and a predicate it points to
/// nothing that may change.
unsafe fn info_of(index: pg_sys::Oid) -> *mut pg_sys::IndexInfo {
    unsafe {
        let index = pg_sys::index_open(index, LOCK);
        let context = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
        let info = pg_sys::BuildIndexInfo(index);
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::index_close(index, pg_sys::NoLock as pg_sys::LOCKMODE);
        info
    }
}

/// Whether an entry of the index is nothing but columns of its row, and is wanted of every row. The expressions and the
/// predicate are asked of the index's row of pg_index: the relation cache reads them only when somebody needs them.
unsafe fn is_plain(index: pg_sys::Oid) -> bool {
    unsafe {
        let index = pg_sys::index_open(index, LOCK);
        let form = (*index).rd_index;
        let is_plain = (*(*index).rd_rel).relam == pg_sys::BTREE_AM_OID
            && (*form).indisready
            && (*form).indimmediate
            && !(*form).indisexclusion
            && is_without(index, pg_sys::Anum_pg_index_indexprs)
            && is_without(index, pg_sys::Anum_pg_index_indpred);
        pg_sys::index_close(index, pg_sys::NoLock as pg_sys::LOCKMODE);
        is_plain
    }
}

/// Whether a column of an open index's row in pg_index is null.
///
/// # Safety
/// The index is open.
pub unsafe fn is_without(index: pg_sys::Relation, column: u32) -> bool {
    // SAFETY: the row lives as long as the index is open. None of its columns is a missing one.
    unsafe { pg_sys::heap_attisnull((*index).rd_indextuple, column as i32, std::ptr::null_mut()) }
}

unsafe fn insert<const N: usize>(table: pg_sys::Relation, columns: &[Value; N], indexes: &Indexes) {
    let mut keys = [pg_sys::Datum::null(); MAX_KEYS];
    let mut null_keys = [false; MAX_KEYS];
    // SAFETY: nothing in the closure has a destructor. An error ends the (sub)transaction, which closes the indexes.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            let (mut values, mut nulls) = datum::of_row(columns);
            let tuple = unguarded::heap_form_tuple(
                (*table).rd_att,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            let command = unguarded::GetCurrentCommandId(true);
            unguarded::heap_insert(table, tuple, command, 0, std::ptr::null_mut());
            for (index, info) in indexes.oids[..indexes.count].iter().zip(&indexes.infos) {
                let index = unguarded::index_open(*index, LOCK);
                let form = (*index).rd_index;
                let columns = (*form).indkey.values.as_slice((*form).indnatts as usize);
                for (at, column) in columns.iter().enumerate() {
                    keys[at] = values[*column as usize - 1];
                    null_keys[at] = nulls[*column as usize - 1];
                }
                let unique = match (*form).indisunique {
                    true => pg_sys::IndexUniqueCheck::UNIQUE_CHECK_YES,
                    false => pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO,
                };
                unguarded::index_insert(
                    index,
                    keys.as_mut_ptr(),
                    null_keys.as_mut_ptr(),
                    &raw mut (*tuple).t_self,
                    table,
                    unique,
                    false,
                    *info,
                );
                unguarded::index_close(index, pg_sys::NoLock as pg_sys::LOCKMODE);
            }
            unguarded::heap_freetuple(tuple);
        });
    }
}
