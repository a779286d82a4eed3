//! Whether this session belongs to a login whose claims count, and whether it answers a request.

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::prelude::*;

use crate::guc;
use crate::pg::{plain_calls, setting};

/// The last answer of is_trusted_session(), and what it was made of: the session's user and the state of the list.
#[derive(Clone, Copy)]
struct Answer {
    user: pg_sys::Oid,
    list: u64,
    is_trusted: bool,
}

thread_local! {
    /// None when a role has changed since.
    static KNOWN: Cell<Option<Answer>> = const { Cell::new(None) };
    static WAS_TRUSTED: Cell<bool> = const { Cell::new(false) };
    static IS_TOLD_OF_ROLES: Cell<bool> = const { Cell::new(false) };
}

/// Whether the session's login is listed in `kijko.trusted_session_users`. Any session can set the claims, so claims count
/// only there.
///
/// A request asks about ten times. The answer is kept until the list or a role changes: Postgres itself finds the name in a
/// cache that the same messages invalidate.
pub fn is_trusted_session() -> bool {
    let user = plain_calls::GetSessionUserId();
    let list = guc::trusted_session_users_version();
    if let Some(known) = KNOWN.get()
        && known.user == user
        && known.list == list
    {
        return known.is_trusted;
    }
    if !IS_TOLD_OF_ROLES.replace(true) {
        let cache = pg_sys::SysCacheIdentifier::AUTHOID as i32;
        // SAFETY: the callback is guarded and lives as long as the library.
        unsafe {
            pg_sys::CacheRegisterSyscacheCallback(cache, Some(role_changed), pg_sys::Datum::null());
        }
    }
    let is_trusted = is_trusted_user(user);
    KNOWN.set(Some(Answer {
        user,
        list,
        is_trusted,
    }));
    WAS_TRUSTED.set(is_trusted);
    is_trusted
}

fn is_trusted_user(user: pg_sys::Oid) -> bool {
    // SAFETY: a plain look-up; the name is a palloc'd copy.
    unsafe {
        let name = pg_sys::GetUserNameFromId(user, true);
        if name.is_null() {
            return false; // dropped while logged in
        }
        let trusted = guc::is_trusted_session_user(&CStr::from_ptr(name).to_string_lossy());
        pg_sys::pfree(name.cast());
        trusted
    }
}

/// Only sets a variable.
unsafe extern "C-unwind" fn role_changed(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    KNOWN.set(None);
}

/// True inside PostgREST: a trusted login, and a request's method.
#[pg_extern(stable, parallel_safe)]
pub fn is_request() -> bool {
    is_trusted_session() && has_method() // a setting that does not exist is searched for each time
}

/// The same without reading a catalog, for while Postgres handles an error: by the last answer in this session.
pub fn is_known_request() -> bool {
    WAS_TRUSTED.get() && has_method()
}

/// Whether a request's method is set. Any session can set it.
pub fn has_method() -> bool {
    setting::METHOD.with(|_| ()).is_some()
}
