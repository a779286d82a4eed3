//! Settings of PostgREST's requests, which are read and written by name, as `current_setting` and `set_config` do.

use std::ffi::{CStr, CString, c_char};
use std::ptr;

use pgrx::pg_sys;

use super::process::ProcessCell;

/// A setting that every request reads several times. PostgreSQL 15 searches all settings for a name, so the setting's variable
/// is kept once it exists. A custom setting is never removed.
pub struct CustomSetting {
    name: &'static CStr,
    variable: ProcessCell<*mut *mut c_char>,
}

pub static CLAIMS: CustomSetting = CustomSetting::new(c"request.jwt.claims");
pub static METHOD: CustomSetting = CustomSetting::new(c"request.method");
pub static PATH: CustomSetting = CustomSetting::new(c"request.path");
pub static REQUEST_HEADERS: CustomSetting = CustomSetting::new(c"request.headers");
pub static RESPONSE_HEADERS: CustomSetting = CustomSetting::new(c"response.headers");

impl CustomSetting {
    const fn new(name: &'static CStr) -> Self {
        Self {
            name,
            variable: ProcessCell::new(ptr::null_mut()),
        }
    }

    /// The value. None when it is missing or empty: a custom setting is empty after its transaction.
    pub fn get(&self) -> Option<String> {
        self.with(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Runs `body` on the bytes of a value that is neither missing nor empty. `body` must not call Postgres.
    pub fn with<T>(&self, body: impl FnOnce(&[u8]) -> T) -> Option<T> {
        // SAFETY: the string belongs to the setting, which nothing changes while `body` runs.
        let value = unsafe {
            let value = self.value();
            if value.is_null() {
                return None;
            }
            CStr::from_ptr(value).to_bytes()
        };
        (!value.is_empty()).then(|| body(value))
    }

    /// Null when it is missing.
    unsafe fn value(&self) -> *const c_char {
        // SAFETY: the variable lives as long as the process.
        unsafe {
            let variable = self.variable.get();
            if !variable.is_null() {
                return *variable;
            }
            let value = pg_sys::GetConfigOption(self.name.as_ptr(), true, false);
            if !value.is_null() {
                self.variable.set(find_variable(self.name));
            }
            value
        }
    }

    /// Sets it for this transaction.
    pub fn set_local(&self, value: &str) {
        set_local(self.name, value);
    }
}

/// The variable of a custom setting that exists. Null where Postgres itself finds it quickly.
#[cfg(feature = "pg15")]
unsafe fn find_variable(name: &CStr) -> *mut *mut c_char {
    // SAFETY: the array has as many settings; one of this type is a string.
    unsafe {
        let all = pg_sys::get_guc_variables();
        let all = std::slice::from_raw_parts(all, pg_sys::GetNumConfigOptions() as usize);
        let is_it = |setting: &&*mut pg_sys::config_generic| {
            let setting = &***setting;
            setting.vartype == pg_sys::config_type::PGC_STRING
                && CStr::from_ptr(setting.name) == name
        };
        match all.iter().find(is_it) {
            Some(setting) => (*setting.cast::<pg_sys::config_string>()).variable,
            None => ptr::null_mut(),
        }
    }
}

#[cfg(not(feature = "pg15"))]
unsafe fn find_variable(_name: &CStr) -> *mut *mut c_char {
    ptr::null_mut()
}

/// Sets a setting for this transaction.
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
