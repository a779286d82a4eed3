//! Values of composite types.

use pgrx::pg_sys;

use super::datum;
use super::value::Value;

/// A row of a function's declared result type. Its descriptor comes from the backend's type cache: making a new one for each
/// call cost more than the whole rate limiter. Only an allocation happens before it is used, so it needs no pin.
///
/// # Safety
/// `call` is a running call of a function that is declared to return a composite type with columns of these types.
pub unsafe fn form<const N: usize>(
    call: pg_sys::FunctionCallInfo,
    columns: &[Value; N],
) -> pg_sys::Datum {
    unsafe {
        let (mut values, mut nulls) = datum::of_row(columns);
        let descriptor = descriptor((*call).flinfo);
        if descriptor.is_null() || (*descriptor).natts != N as i32 {
            pgrx::error!("the result is not of the type that this library was built for");
        }
        let tuple = pg_sys::heap_form_tuple(descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
    }
}

unsafe fn descriptor(function: *mut pg_sys::FmgrInfo) -> pg_sys::TupleDesc {
    unsafe {
        let mut result = pg_sys::get_fn_expr_rettype(function);
        if result == pg_sys::InvalidOid {
            result = pg_sys::get_func_rettype((*function).fn_oid); // called without an expression
        }
        (*pg_sys::lookup_type_cache(result, pg_sys::TYPECACHE_TUPDESC as i32)).tupDesc
    }
}
