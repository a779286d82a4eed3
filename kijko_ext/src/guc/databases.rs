//! `kijko.databases`: the databases that have a worker.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_void};

use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

use super::names::split_names;

static DATABASES: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"postgres"));

/// Maximum number of names. Each has a process.
const MAX: usize = 64;

pub fn define() {
    unsafe {
        // SAFETY: the check hook is guarded, replaces nothing and allocates nothing.
        GucRegistry::define_string_guc_with_hooks(
            c"kijko.databases",
            c"The databases that have a worker, which meters their requests.",
            c"Names separated by commas, at most 64. Each takes one of max_worker_processes, and the launcher another one. In other databases kijko.admit_request limits but meters nothing.",
            &DATABASES,
            GucContext::Sighup, // a session that could change it could stop what others are billed for
            GucFlags::empty(),
            Some(check),
            None,
            None,
        );
    }
}

/// As listed, without repetitions.
pub fn names() -> Vec<String> {
    parse(DATABASES.get().as_deref())
}

fn parse(list: Option<&CStr>) -> Vec<String> {
    let list = list.map(CStr::to_string_lossy).unwrap_or_default();
    let mut names = split_names(&list);
    names.sort();
    names.dedup();
    names
}

/// Whether this process's database is listed. Every request asks, so the list is parsed only when it has changed.
pub fn is_listed() -> bool {
    thread_local! {
        static KNOWN: RefCell<(Option<CString>, bool)> = RefCell::default();
    }
    KNOWN.with_borrow_mut(|(known, is_listed)| {
        let list = DATABASES.get();
        if *known != list {
            // A database with connections is not renamed.
            let own = own_name();
            *is_listed = own.is_some_and(|own| parse(list.as_deref()).contains(&own));
            *known = list;
        }
        *is_listed
    })
}

/// None in the middle of a DROP DATABASE.
fn own_name() -> Option<String> {
    // SAFETY: a copy of the name, or null.
    unsafe {
        let name = pg_sys::get_database_name(pg_sys::MyDatabaseId);
        (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn check(
    new_value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: a string or null.
    let list = unsafe { (!(*new_value).is_null()).then(|| CStr::from_ptr(*new_value)) };
    parse(list).len() <= MAX
}
