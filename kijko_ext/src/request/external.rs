//! `kijko.admit_external(forwarded_for, method, path)` limits requests that another server takes (the sidecar), by address and
//! route. It returns the refusal and its headers instead of an error, because that server writes the response.

use pgrx::prelude::*;
use pgrx::{JsonB, pg_sys};
use serde_json::{Map, Value, json};

use super::admit;
use super::policy::{self, RequestInfo};
use super::response_headers::{self, LimitState};
use crate::pg::sql_function::{Answer, Arguments, sql_function};
use crate::{client, clock, guc};

sql_function!(
    kijko_admit_external,
    pg_finfo_kijko_admit_external,
    admit_external
);

fn admit_external(arguments: Arguments) -> Answer {
    let request = RequestInfo {
        network: arguments.text(0).and_then(client::network_of),
        user: None,
        organization: None,
        api_key: None,
        is_publishable: false,
        method: arguments.text(1).unwrap_or_default(),
        path: arguments.text(2).unwrap_or_default(),
    };
    let answer = match admit::policies_of(policy::EXTERNAL) {
        Ok(policies) => answer(&admit::rates(policies.iter(), &request)),
        Err(failure) => {
            let then = guc::on_rate_limit_failure();
            let passes = admit::fail_open(then, "the rate limits", &failure);
            json!({"code": (!passes).then_some("unavailable"), "details": null, "headers": {}})
        }
    };
    Ok(JsonB(answer).into_datum().unwrap_or(pg_sys::Datum::null()))
}

fn answer(limits: &[LimitState]) -> Value {
    let refusing = response_headers::tightest(limits).filter(|limit| !limit.allowed);
    let now = clock::unix_seconds(clock::real_micros());
    let headers =
        response_headers::of_limits(limits, now, guc::rate_limit_headers::are_all_wanted());
    let headers: Map<_, _> = headers
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Value::from(value)))
        .collect();
    json!({
        "code": refusing.map(|_| "rate_limited"),
        "details": refusing.map(LimitState::exceeded),
        "headers": headers,
    })
}
