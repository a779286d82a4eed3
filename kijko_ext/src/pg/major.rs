//! What differs between the major versions of Postgres, 15 to 18. Nothing else of the extension asks which one it is built
//! for, but the executor's hook in request/brief.rs: it has an argument less since 18.

use pgrx::pg_sys;

/// USER_TIMEOUT of timeout.h: the first number that Postgres gives to a timer of an extension. The header is not among those
/// that pgrx translates.
pub const USER_TIMEOUT: u32 = if cfg!(any(feature = "pg15", feature = "pg16")) {
    12
} else {
    13 // since 17, which knows a timeout of transactions
};

/// This backend's number, from 0 on and less than MaxBackends. None in a process that is no backend.
pub fn backend_number() -> Option<usize> {
    // SAFETY: reads a variable of this process.
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    let number = unsafe { pg_sys::MyBackendId }.checked_sub(1)?;
    // SAFETY: as above.
    #[cfg(not(any(feature = "pg15", feature = "pg16")))]
    let number = unsafe { pg_sys::MyProcNumber };
    usize::try_from(number).ok()
}

/// The index of the table's primary key, which is checked at once.
///
/// # Safety
/// The table is open.
pub unsafe fn primary_key_index(table: pg_sys::Relation) -> pg_sys::Oid {
    // SAFETY: as the caller says.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        return pg_sys::RelationGetPrimaryKeyIndex(table);
        #[cfg(feature = "pg18")]
        return pg_sys::RelationGetPrimaryKeyIndex(table, false);
    }
}

/// The columns of a row type, dropped ones included.
///
/// # Safety
/// The descriptor lives as long as what is made of it.
pub unsafe fn columns<'a>(descriptor: pg_sys::TupleDesc) -> &'a [pg_sys::FormData_pg_attribute] {
    // SAFETY: a descriptor has natts columns.
    unsafe {
        let count = (*descriptor).natts as usize;
        #[cfg(not(feature = "pg18"))]
        let first = (*descriptor).attrs.as_ptr();
        // TupleDescAttr() of tupdesc.h: they follow the short forms of all columns.
        #[cfg(feature = "pg18")]
        let first: *const pg_sys::FormData_pg_attribute =
            (*descriptor).compact_attrs.as_ptr().add(count).cast();
        std::slice::from_raw_parts(first, count)
    }
}

/// Whether Postgres computes columns of the table from others.
///
/// # Safety
/// What a descriptor says of its table.
pub unsafe fn has_generated_columns(constraints: *const pg_sys::TupleConstr) -> bool {
    // SAFETY: as the caller says.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        return (*constraints).has_generated_stored;
        #[cfg(feature = "pg18")]
        return (*constraints).has_generated_stored || (*constraints).has_generated_virtual;
    }
}
