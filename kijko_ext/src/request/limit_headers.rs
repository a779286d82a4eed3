//! `kijko.limit_headers(verdict)` adds a use of a quota to the response's headers. RateLimit-Policy and RateLimit list it
//! beside the limits of the request. X-RateLimit-* describe the last use: of a refusal, or where all fields are asked for.

use pgrx::prelude::*;

use super::response_headers::{self, QuotaUse};
use crate::pg::sql_function::{Answer, Arguments, sql_function};
use crate::{clock, guc, headers};

sql_function!(
    kijko_limit_headers,
    pg_finfo_kijko_limit_headers,
    limit_headers
);

/// Columns of kijko.verdict.
const ALLOWED: i16 = 1;
const METER: i16 = 3;
const LIMIT: i16 = 5;
const REMAINING: i16 = 6;
const RESET_AT: i16 = 7;
const RETRY_AFTER: i16 = 8;

fn limit_headers(arguments: Arguments) -> Answer {
    let nothing = pg_sys::Datum::null(); // void is not null
    let Some(verdict) = arguments.held(0) else {
        return Ok(nothing);
    };
    // SAFETY: declared as kijko.verdict.
    let tuple: pg_sys::HeapTupleHeader = unsafe {
        pg_sys::pg_detoast_datum(pg_sys::Datum::from(verdict.datum()).cast_mut_ptr()).cast()
    };
    let column = |number| {
        let mut null = false;
        // SAFETY: as above, so it has these columns.
        let datum = unsafe { pg_sys::GetAttributeByNum(tuple, number, &mut null) };
        (!null).then_some(datum)
    };
    let integer = |number| column(number).map(|datum| datum.value() as i64);
    // SAFETY: a text.
    let meter = column(METER).and_then(|datum| unsafe { String::from_datum(datum, false) });
    let refused = column(ALLOWED).is_some_and(|datum| datum.value() as u8 == 0);
    let used = integer(LIMIT).map(|limit| QuotaUse {
        name: meter.as_deref().unwrap_or_default(),
        limit,
        remaining: integer(REMAINING).unwrap_or(0),
        reset_at: integer(RESET_AT).map(clock::unix_seconds_from),
        refused,
    });
    let retry_after = column(RETRY_AFTER).map(|datum| datum.value() as u32);
    let [policies, states] = ["RateLimit-Policy", "RateLimit"].map(headers::of_response);
    // Periods are of product time.
    let now = clock::unix_seconds(clock::now_micros());
    let headers = response_headers::of_quota_use(
        used,
        retry_after,
        now,
        guc::rate_limit_headers::are_all_wanted(),
        policies.as_deref(),
        states.as_deref(),
    );
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_deref()))
        .collect();
    headers::add(&headers);
    Ok(nothing)
}
