//! `kijko.admit_outside(forwarded_for, method, path)`: a request that another server takes (the sidecar), limited by
//! address and route like those of the API. It answers what to tell the client instead of refusing by an error: who asks
//! is no client, and has the answer to write.

use pgrx::prelude::*;
use pgrx::{JsonB, pg_sys};
use serde_json::{Map, Value, json};

use super::admit;
use super::policy::{self, Asked};
use super::told::{self, Limit};
use crate::pg::sql_function::{Answer, Arguments, sql_function};
use crate::{client, clock, guc};

sql_function!(
    kijko_admit_outside,
    pg_finfo_kijko_admit_outside,
    admit_outside
);

fn admit_outside(arguments: Arguments) -> Answer {
    let asked = Asked {
        network: arguments.text(0).and_then(client::network_of),
        user: None,
        organization: None,
        api_key: None,
        method: arguments.text(1).unwrap_or_default(),
        path: arguments.text(2).unwrap_or_default(),
    };
    let answer = match admit::policies_of(policy::OUTSIDE) {
        Ok(policies) => answer(&admit::rates(&policies, &asked)),
        Err(failure) => {
            let then = guc::on_rate_limit_failure();
            let passes = admit::passes(then, "the rate limits", &failure);
            json!({"code": (!passes).then_some("unavailable"), "details": null, "headers": {}})
        }
    };
    Ok(JsonB(answer).into_datum().unwrap_or(pg_sys::Datum::null()))
}

fn answer(limits: &[Limit]) -> Value {
    let refusing = told::tightest(limits).filter(|limit| !limit.allowed);
    let headers = told::headers(limits, clock::unix_seconds(clock::real_micros()));
    let headers: Map<_, _> = headers
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Value::from(value)))
        .collect();
    json!({
        "code": refusing.map(|_| "rate_limited"),
        "details": refusing.map(Limit::exceeded),
        "headers": headers,
    })
}
