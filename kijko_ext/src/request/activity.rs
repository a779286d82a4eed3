//! The request's id in `application_name`, behind the name of the connection: `pg_stat_activity` then shows which request a statement
//! belongs to, while it runs. Postgres cuts the name at 63 bytes, and takes the former one back at the end of the transaction.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::log_context::is_id;
use crate::headers;
use crate::pg::setting;

/// Without an id of the characters of ids the name stays as it is.
pub fn name_request() {
    let named = headers::of_request("x-request-id", |id| {
        is_id(id).then(|| format!("{} {id}", connection()))
    });
    if let Some(name) = named.flatten() {
        setting::set_local(c"application_name", &name);
    }
}

/// The name of the connection, also in a transaction that has named a request before.
fn connection() -> String {
    // SAFETY: the string belongs to the setting, which nothing changes meanwhile.
    let name = unsafe {
        if pg_sys::application_name.is_null() {
            return String::new();
        }
        CStr::from_ptr(pg_sys::application_name).to_string_lossy()
    };
    name.split(' ').next().unwrap_or_default().to_owned()
}
