//! Whether this session belongs to a login whose claims count, and whether it answers a request.

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::prelude::*;

use crate::guc;
use crate::pg::setting;

thread_local! {
    /// The last answer of is_trusted_session().
    static WAS_TRUSTED: Cell<bool> = const { Cell::new(false) };
}

/// Whether the session's login is listed in `kijko.trusted_session_users`. Any session can set the claims, so claims count
/// only there.
pub fn is_trusted_session() -> bool {
    // SAFETY: plain look-ups; the name is a palloc'd copy.
    unsafe {
        let name = pg_sys::GetUserNameFromId(pg_sys::GetSessionUserId(), true);
        if name.is_null() {
            return false; // dropped while logged in
        }
        let trusted = guc::is_trusted_session_user(&CStr::from_ptr(name).to_string_lossy());
        pg_sys::pfree(name.cast());
        WAS_TRUSTED.set(trusted);
        trusted
    }
}

/// True inside PostgREST: a trusted login, and a request's method.
#[pg_extern(stable, parallel_safe)]
pub fn is_request() -> bool {
    has_method() && is_trusted_session()
}

/// The same without reading a catalog, for while Postgres handles an error: by the last answer in this session.
pub fn is_known_request() -> bool {
    WAS_TRUSTED.get() && has_method()
}

fn has_method() -> bool {
    setting::METHOD.with(|_| ()).is_some()
}
