//! `kijko.admit_known_request()` does all that comes before a request whose caller the extension knows by itself: an API key, the
//! service role, and a member whose membership is cached. False for any other, which the domain admits.
//!
//! It is one function because Postgres prepares each call of an expression anew for every execution, also those of branches
//! that are not taken, and asks for the right to each: with a function for each step that took longer than the steps.

use std::ffi::CStr;

use pgrx::prelude::*;

use super::actors::{self, Actor};
use super::{activity, admit, authenticate, header_check, issuer_token, token};
use crate::caller::{SERVICE_ROLE, USER_ROLE};
use crate::pg::setting;
use crate::pg::sql_function::{Answer, Arguments, sql_function};

sql_function!(
    kijko_admit_known_request,
    pg_finfo_kijko_admit_known_request,
    admit_known_request
);

fn admit_known_request(_: Arguments) -> Answer {
    let answer = |is_admitted: bool| Ok(pg_sys::Datum::from(is_admitted));
    activity::name_request();
    if authenticate::by_api_key()? {
        // A request with a key comes as anon. Policies for users hold for keys, too.
        setting::set_local(c"role", USER_ROLE);
        return answer(admit::cached_member()?);
    }
    if issuer_token::authenticate()? {
        return answer(false);
    }
    if is_service_role() && token::fault().is_none() {
        actors::note(&Actor {
            kind: "service",
            ..Actor::default()
        });
        header_check::check()?;
        return answer(true);
    }
    answer(admit::cached_member()?)
}

/// By the role of the request, not by its claims. It is the caller's: the function is no definer's.
fn is_service_role() -> bool {
    // SAFETY: a plain look-up; the name is a palloc'd copy.
    unsafe {
        let name = pg_sys::GetUserNameFromId(pg_sys::GetUserId(), true);
        !name.is_null() && CStr::from_ptr(name).to_bytes() == SERVICE_ROLE.as_bytes()
    }
}
