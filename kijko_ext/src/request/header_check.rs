//! Refuses headers that are not UTF-8, and preferences for estimates and rollbacks.

use pgrx::prelude::*;

use super::preferences;
use crate::headers;
use crate::pg::sql_function::{Answer, Arguments, Refusal, sql_function};

sql_function!(
    kijko_check_request,
    pg_finfo_kijko_check_request,
    check_request
);

fn check_request(_: Arguments) -> Answer {
    check()?;
    Ok(pg_sys::Datum::null()) // void is not null
}

pub fn check() -> Result<(), Refusal> {
    // Caddy replaces bytes that are not UTF-8 by U+FFFD. PostgREST would answer them with 500 and drop its connection.
    if headers::are_malformed() {
        return Err(refusal("a header is not UTF-8"));
    }
    match headers::of_request("prefer", preferences::problem).flatten() {
        Some(problem) => Err(refusal(problem)),
        None => Ok(()),
    }
}

fn refusal(details: &str) -> Refusal {
    Refusal::new("bad_request", details, None)
}
