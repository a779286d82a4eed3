//! Whether this session belongs to a login whose claims count, and whether it answers a request.

use std::ffi::CStr;

use pgrx::prelude::*;

use crate::guc;
use crate::pg::setting;

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
        trusted
    }
}

/// True inside PostgREST: a trusted login, and a request's method.
#[pg_extern(stable, parallel_safe)]
pub fn is_request() -> bool {
    setting::with(c"request.method", |_| ()).is_some() && is_trusted_session()
}
