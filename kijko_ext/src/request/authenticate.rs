//! `kijko.authenticate_api_key()` identifies the API key in the request's header X-API-Key. The key is the caller until the
//! transaction ends.
//!
//! Whatever is refused here counts against the client's network, by the policies of unauthenticated requests: who tries keys is
//! stopped as anybody without one. The header is believed in a request alone (trust.rs), and is gone afterwards, so that
//! nothing that runs later can write the secret anywhere.

use std::rc::Rc;

use pgrx::prelude::*;
use serde_json::Value;

use super::policy::{self, RequestInfo};
use super::{admit, response_headers, token};
use crate::api_key::format::{self, Malformed};
use crate::api_key::lookup::{self, Found};
use crate::api_key::record::Stored;
use crate::api_key::{calling, last_use};
use crate::issuer::TOKEN_HEADER;
use crate::pg::setting;
use crate::pg::sql_function::{Answer, Arguments, Refusal, sql_function};
use crate::{claims, client, clock, guc, headers, trust};

sql_function!(
    kijko_authenticate_api_key,
    pg_finfo_kijko_authenticate_api_key,
    authenticate_api_key
);

const HEADER: &str = "x-api-key";
/// The role of a request without a token, and of the anon key.
const ANON_ROLE: &str = "anon";

/// Why a request with a key is refused.
pub(super) struct Problem {
    code: &'static str,
    details: String,
}

impl Problem {
    pub(super) fn new(code: &'static str, details: &str) -> Self {
        Self {
            code,
            details: details.to_owned(),
        }
    }
}

fn authenticate_api_key(_: Arguments) -> Answer {
    Ok(pg_sys::Datum::from(by_api_key()?))
}

/// False without the header. An empty one is none, as clients send it for a variable that is not set.
pub(super) fn by_api_key() -> Result<bool, Refusal> {
    if calling::current().is_some() {
        return Ok(true);
    }
    let secret = headers::of_request(HEADER, str::to_owned);
    let Some(secret) = secret.filter(|secret| !secret.is_empty()) else {
        return Ok(false);
    };
    if !trust::is_request() {
        return Ok(false);
    }
    let found = identify(&secret).map_err(refusal)?;
    let key = &found.stored.key;
    headers::remove_of_request(HEADER);
    calling::set(key, &found.text);
    if key.only_reads() {
        setting::set_local(c"transaction_read_only", "on");
    }
    if guc::databases::is_listed() {
        last_use::note(&key.id, clock::now_micros());
    }
    Ok(true)
}

fn identify(secret: &str) -> Result<Rc<Found>, Problem> {
    refuse_other_identities(secret)?;
    format::check(secret).map_err(|malformed| {
        not_identified(match malformed {
            Malformed::Form => "this is not an API key: see its documented form",
            Malformed::Checksum => "the checksum of the API key is wrong: it has a typo",
        })
    })?;
    let now = clock::now_micros();
    let Some(found) = lookup::by_hash(&format::hash(secret)) else {
        return Err(not_identified("there is no such API key"));
    };
    if found.valid_until.is_some_and(|until| until <= now) {
        return Err(not_identified(
            "this secret of the API key was replaced by a newer one",
        ));
    }
    if let Some(problem) = found.stored.problem(now) {
        return Err(not_identified(problem));
    }
    check_origin(&found.stored)?;
    Ok(found)
}

/// A request has one identity. The anon key's token beside an API key says nothing of who calls.
fn refuse_other_identities(secret: &str) -> Result<(), Problem> {
    // The proxy joins the values of several headers.
    if secret.contains(',') {
        return Err(two_identities("the request has two API keys"));
    }
    if headers::of_request(TOKEN_HEADER, |token| !token.is_empty()).unwrap_or(false) {
        return Err(two_identities("the request has a token and an API key"));
    }
    let role = |role: &Value| role.as_str() != Some(ANON_ROLE);
    let is_other = claims::with(|claims| Some(claims.get("role").is_some_and(role)));
    if is_other.unwrap_or(false) {
        return Err(two_identities("the request has a token and an API key"));
    }
    match token::fault() {
        None => Ok(()),
        Some(claim) => Err(Problem {
            code: "not_identified",
            details: format!("not an access token: claim {claim} is missing or wrong"),
        }),
    }
}

fn check_origin(stored: &Stored) -> Result<(), Problem> {
    let origin = headers::of_request("origin", str::to_owned);
    match stored.admits_origin(origin.as_deref()) {
        true => Ok(()),
        false => Err(not_identified(
            "a publishable key is accepted only from its origins",
        )),
    }
}

pub(super) fn not_identified(details: &str) -> Problem {
    Problem::new("not_identified", details)
}

fn two_identities(details: &str) -> Problem {
    Problem::new("bad_request", details)
}

/// The refusal, or rate_limited for a network with too many requests.
pub(super) fn refusal(problem: Problem) -> Refusal {
    let [method, path] =
        [&setting::METHOD, &setting::PATH].map(|setting| setting.get().unwrap_or_default());
    let request = RequestInfo {
        network: client::network(),
        organization: None,
        user: None,
        api_key: None,
        is_publishable: false,
        method: &method,
        path: &path,
    };
    let policies = admit::policies_of(policy::ANONYMOUS).unwrap_or_else(|failure| {
        admit::fail_open(guc::on_rate_limit_failure(), "the rate limits", &failure);
        Rc::from([]) // refused anyway
    });
    let limits = admit::rates(policies.iter(), &request);
    admit::write_headers(&limits);
    match response_headers::tightest(&limits) {
        Some(limit) if !limit.allowed => admit::refusal(limit),
        _ => Refusal::new(problem.code, &problem.details, None),
    }
}
