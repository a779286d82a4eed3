//! Settings of API keys: how many uses are noted, and which key makes the request of this transaction.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_void};

use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

static SLOTS: GucSetting<i32> = GucSetting::<i32>::new(16_384);
static CALLING_KEY: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
const CALLING_KEY_NAME: &CStr = c"kijko.calling_api_key";

thread_local! {
    static MAY_SET: Cell<bool> = const { Cell::new(false) };
}

pub fn define() {
    GucRegistry::define_int_guc(
        c"kijko.api_key_slots",
        c"API keys whose last use is noted in shared memory, 40 bytes each.",
        c"Rounded up to a power of two. A full table forgets the least recently used key of a set; kijko.stats() counts uses that were lost by it.",
        &SLOTS,
        1_024,
        1_048_576,
        GucContext::Postmaster, // shared memory is sized once
        GucFlags::empty(),
    );
    unsafe {
        // SAFETY: the check hook is guarded, replaces nothing and allocates nothing.
        GucRegistry::define_string_guc_with_hooks(
            CALLING_KEY_NAME,
            c"The API key that makes the request of this transaction.",
            c"Set by kijko.authenticate_api_key() and kijko.assume_api_key(), and by nothing else.",
            &CALLING_KEY,
            GucContext::Suset, // nobody may choose who calls; the check hook refuses superusers, too
            GucFlags::NO_SHOW_ALL
                | GucFlags::NO_RESET_ALL
                | GucFlags::DISALLOW_IN_FILE
                | GucFlags::SUPERUSER_ONLY,
            Some(check_calling_key),
            None,
            None,
        );
    }
}

pub fn slots() -> usize {
    (SLOTS.get() as usize).next_power_of_two()
}

/// Empty is none.
pub fn calling_key() -> Option<&'static [u8]> {
    // SAFETY: reads the pointer that Postgres keeps. Its text is valid until the setting changes, which no caller causes while
    // it reads.
    let text = unsafe {
        let text = *CALLING_KEY.as_ptr();
        if text.is_null() || *text == 0 {
            return None;
        }
        CStr::from_ptr(text)
    };
    Some(text.to_bytes())
}

/// Sets it until the end of the (sub)transaction, which restores it when it is rolled back.
pub fn set_calling_key(text: &str) {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            MAY_SET.set(false);
        }
    }
    let text = CString::new(text).unwrap_or_default();
    let _reset = Reset;
    MAY_SET.set(true);
    // SAFETY: both strings outlive the call, which copies them.
    unsafe {
        pg_sys::set_config_option(
            CALLING_KEY_NAME.as_ptr(),
            text.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_LOCAL,
            true,
            0,
            false,
        );
    }
}

/// A parallel worker gets it from its leader.
#[pg_guard]
unsafe extern "C-unwind" fn check_calling_key(
    new_value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: called by Postgres with a text or null; the variable is plain.
    unsafe {
        let value = *new_value;
        value.is_null() || *value == 0 || MAY_SET.get() || pg_sys::InitializingParallelWorker
    }
}
