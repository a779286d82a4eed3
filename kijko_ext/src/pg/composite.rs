//! Values of composite types.

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use super::datum;
use super::value::Value;

/// Functions of Postgres without pgrx's guard around each call: `form` has one guard around all of them.
mod unguarded {
    use pgrx::pg_sys::*;

    unsafe extern "C-unwind" {
        pub fn get_fn_expr_rettype(function: *mut FmgrInfo) -> Oid;
        pub fn get_func_rettype(function: Oid) -> Oid;
        pub fn lookup_type_cache(of: Oid, flags: i32) -> *mut TypeCacheEntry;
        pub fn heap_form_tuple(of: TupleDesc, values: *mut Datum, nulls: *mut bool) -> HeapTuple;
        #[allow(non_snake_case, reason = "as Postgres calls it")]
        pub fn HeapTupleHeaderGetDatum(tuple: HeapTupleHeader) -> Datum;
    }
}

/// A row of a function's declared result type. Its descriptor comes from the backend's type cache: making a new one for each
/// call cost more than the whole rate limiter. Only an allocation happens before it is used, so it needs no pin.
///
/// # Safety
/// `call` is a running call of a function that is declared to return a composite type with columns of these types.
pub unsafe fn form<const N: usize>(
    call: pg_sys::FunctionCallInfo,
    columns: &[Value; N],
) -> pg_sys::Datum {
    // SAFETY: nothing in the closure has a destructor.
    let row = unsafe {
        pg_guard_ffi_boundary(|| {
            let (mut values, mut nulls) = datum::of_row(columns);
            let descriptor = descriptor((*call).flinfo);
            if descriptor.is_null() || (*descriptor).natts != N as i32 {
                return None;
            }
            let tuple =
                unguarded::heap_form_tuple(descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            Some(unguarded::HeapTupleHeaderGetDatum((*tuple).t_data))
        })
    };
    row.unwrap_or_else(|| {
        pgrx::error!("the result is not of the type that this library was built for")
    })
}

unsafe fn descriptor(function: *mut pg_sys::FmgrInfo) -> pg_sys::TupleDesc {
    unsafe {
        let mut result = unguarded::get_fn_expr_rettype(function);
        if result == pg_sys::InvalidOid {
            result = unguarded::get_func_rettype((*function).fn_oid); // called without an expression
        }
        (*unguarded::lookup_type_cache(result, pg_sys::TYPECACHE_TUPDESC as i32)).tupDesc
    }
}
