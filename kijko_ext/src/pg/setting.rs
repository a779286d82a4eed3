//! Settings that are read and written by name, as `current_setting` and `set_config` do.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;

/// The value of a setting. None when it is missing or empty: a custom setting is empty after its transaction.
pub fn get(name: &CStr) -> Option<String> {
    with(name, |value| String::from_utf8_lossy(value).into_owned())
}

/// Runs `body` on the bytes of a setting that is neither missing nor empty. `body` must not call Postgres.
pub fn with<T>(name: &CStr, body: impl FnOnce(&[u8]) -> T) -> Option<T> {
    // SAFETY: the string belongs to the setting, which nothing changes while `body` runs.
    let value = unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        if value.is_null() {
            return None;
        }
        CStr::from_ptr(value).to_bytes()
    };
    (!value.is_empty()).then(|| body(value))
}

/// Sets a custom setting for this transaction.
pub fn set_local(name: &CStr, value: &str) {
    let value = CString::new(value).unwrap_or_default();
    // SAFETY: both strings outlive the call, which copies them.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_LOCAL,
            true,
            0,
            false,
        );
    }
}
