//! The data of a trigger's call.

use pgrx::pg_sys;

use super::sql_function::Arguments;

/// An error when the function, named for its message, was not called as a trigger.
pub fn data(arguments: Arguments, function: &str) -> *mut pg_sys::TriggerData {
    // SAFETY: the context of a trigger's call is its data; that of any other call is another node or null.
    unsafe {
        let data: *mut pg_sys::TriggerData = (*arguments.call()).context.cast();
        if data.is_null() || (*data).type_ != pg_sys::NodeTag::T_TriggerData {
            pgrx::error!("{function} is a trigger");
        }
        data
    }
}
