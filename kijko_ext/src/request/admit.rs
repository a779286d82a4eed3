//! `kijko.admit_request(organization, user, api_key)` admits or refuses a request. `kijko.admit_cached_member()` does the same
//! for a caller whose membership is cached, and for an API key, which has no other organization than its own.

use std::rc::Rc;

use pgrx::prelude::*;

use super::actors::Actor;
use super::policy::{Identity, RateLimitPolicy, RequestInfo, Scope};
use super::response_headers::{self, LimitState};
use super::{
    actors, connection_time, counters, header_check, membership_cache, policy_cache,
    statement_timeout, token,
};
use crate::api_key::record::{ApiKey, Kind};
use crate::api_key::{calling, lookup};
use crate::guc::{self, FailureMode};
use crate::pg::setting;
use crate::pg::sql_function::{Answer, Arguments, Refusal, sql_function};
use crate::pg::subtransaction::in_subtransaction;
use crate::quota::api::metered_usage;
use crate::rate_limit::{gcra::RateDecision, limiter};
use crate::{client, clock, headers, request_counter, subject};

sql_function!(
    kijko_admit_request,
    pg_finfo_kijko_admit_request,
    admit_request
);
sql_function!(
    kijko_admit_cached_member,
    pg_finfo_kijko_admit_cached_member,
    admit_cached_member
);

const NANOS: u64 = 1_000_000_000;
/// The quota of requests that an API key has of its own, beside the organization's.
const API_KEY_QUOTA: &str = "api_key_quota";

/// Whose request it is.
#[derive(Default)]
struct Caller {
    organization: Option<[u8; 16]>,
    user: Option<[u8; 16]>,
    api_key: Option<[u8; 16]>,
    /// What is stored about the key. None for one that is unknown.
    record: Option<Rc<ApiKey>>,
}

impl Caller {
    fn actor(&self) -> Actor {
        let kind = match (&self.record, self.user) {
            (Some(key), _) => key.kind.caller(),
            (None, Some(_)) => "user",
            (None, None) => "anonymous",
        };
        Actor {
            kind,
            user: self.user,
            api_key: self.api_key,
            organization: self.organization,
        }
    }
}

/// Arguments: organization, user, API key.
fn admit_request(arguments: Arguments) -> Answer {
    let [organization, user, api_key] = [0, 1, 2].map(|at| arguments.uuid(at));
    admit(&Caller {
        organization,
        user,
        api_key,
        record: api_key.and_then(|id| record_of(&id)),
    })?;
    Ok(pg_sys::Datum::from(true))
}

fn record_of(key: &[u8; 16]) -> Option<Rc<ApiKey>> {
    calling::current()
        .filter(|calling| calling.id == *key)
        .or_else(|| lookup::by_id(key).map(|stored| stored.key))
}

/// Admits the request of an API key, or of a caller whose membership this backend has cached. Returns false for any other
/// caller, and for a token that is not an access token: the domain then looks.
fn admit_cached_member(_: Arguments) -> Answer {
    Ok(pg_sys::Datum::from(cached_member()?))
}

pub fn cached_member() -> Result<bool, Refusal> {
    if let Some(key) = calling::current() {
        admit_api_key(key)?;
        return Ok(true);
    }
    let known = match token::fault() {
        None => membership_cache::current_member(),
        Some(_) => None,
    };
    let Some((user, organization)) = known else {
        return Ok(false);
    };
    admit(&Caller {
        organization: Some(organization),
        user: Some(user),
        ..Caller::default()
    })?;
    Ok(true)
}

fn admit_api_key(key: Rc<ApiKey>) -> Result<(), Refusal> {
    let requested = membership_cache::requested_by_header()?;
    admit(&Caller {
        organization: Some(key.organization),
        user: key.owner,
        api_key: Some(key.id),
        record: Some(key.clone()),
    })?;
    // After the limits, so that probing for other organizations is limited, too.
    match requested.is_none_or(|organization| organization == key.organization) {
        true => Ok(()),
        false => {
            let details = "x-org-id: not the organization of the API key";
            Err(Refusal::new("not_a_member", details, None))
        }
    }
}

fn admit(caller: &Caller) -> Result<(), Refusal> {
    // A request that is refused has a caller, too.
    actors::note(&caller.actor());
    let [method, path] =
        [&setting::METHOD, &setting::PATH].map(|setting| setting.get().unwrap_or_default());
    let record = caller.record.as_deref();
    let mut request = RequestInfo {
        network: None,
        organization: caller.organization,
        user: caller.user,
        api_key: caller.api_key,
        is_publishable: record.is_some_and(|key| key.kind == Kind::Publishable),
        method: &method,
        path: &path,
    };
    // Counted first, because a request that is refused is a request, too.
    let quotas = counted_quotas(caller);
    header_check::check()?;

    let (tier, policies) = match policies(&request) {
        Ok(found) => (Some(found.tier), found.policies),
        Err(failure) => {
            apply_failure_mode(guc::on_rate_limit_failure(), "the rate limits", &failure)
                .map(|()| (None, Rc::from([])))?
        }
    };
    if policies.iter().any(|policy| policy.scope == Scope::Address) {
        request.network = client::network();
    }
    let own = record.and_then(|key| RateLimitPolicy::of_api_key(key.rate_limit?));
    let mut limits = rates(own.iter().chain(policies.iter()), &request);
    if limits.iter().all(|limit| limit.allowed) {
        for (name, subject, pending) in quotas {
            match quota(name, &subject, pending) {
                Ok(quota) => limits.extend(quota),
                Err(failure) => {
                    apply_failure_mode(guc::on_quota_failure(), "the quota of requests", &failure)?
                }
            }
        }
    }
    let refused = match limits.iter().all(|limit| limit.allowed) {
        true => connection_time::admit(&request, tier.as_deref()).err(),
        false => None,
    };
    limits.extend(refused.as_ref().map(|refused| refused.limit));
    write_headers(&limits);
    if let Some(refused) = refused {
        return Err(Refusal::new("rate_limited", &refused.details, None));
    }
    match response_headers::tightest(&limits) {
        Some(limit) if !limit.allowed => return Err(refusal(limit)),
        _ => {}
    }
    if let Some(tier) = tier {
        statement_timeout::apply(&tier);
    }
    Ok(())
}

/// Counts the request for each subject that has a quota of requests: the organization, and the API key. Returns the limits'
/// names, the subjects, and how many of their requests are not in the ledger yet.
fn counted_quotas(caller: &Caller) -> impl Iterator<Item = (&'static str, [u8; 16], u64)> {
    let organization = caller.organization.map(|id| (request_counter::METER, id));
    let api_key = caller.record.as_ref().map(|key| {
        let subject = subject::of(subject::API_KEY, &key.id);
        (API_KEY_QUOTA, subject)
    });
    [organization, api_key]
        .map(|quota| quota.map(|(name, id)| (name, id, request_counter::count(&id).unwrap_or(1))))
        .into_iter()
        .flatten()
}

fn policies(request: &RequestInfo) -> Result<policy_cache::RequestPolicies, String> {
    let (organization, user) = (request.organization.as_ref(), request.user.as_ref());
    policy_cache::of_request(organization, user).map_or_else(
        || in_subtransaction(|| policy_cache::read_request(organization, user)),
        Ok,
    )
}

pub fn policies_of(tier: &str) -> Result<Rc<[RateLimitPolicy]>, String> {
    policy_cache::of_tier(tier)
        .map_or_else(|| in_subtransaction(|| policy_cache::read_tier(tier)), Ok)
}

/// Takes from all limits that apply, or from none of them. Each limit in shadow mode counts by itself.
pub fn rates<'a>(
    policies: impl Iterator<Item = &'a RateLimitPolicy> + Clone,
    request: &RequestInfo,
) -> Vec<LimitState<'a>> {
    let applying = |shadow: bool| {
        let whose = move |policy: &'a RateLimitPolicy| Some((policy, policy.counts_for(request)?));
        policies
            .clone()
            .filter(move |policy| policy.shadow == shadow)
            .filter_map(whose)
    };
    for (policy, whose) in applying(true) {
        let call = call(policy, whose);
        if !limiter::decide(&[call])[0].allowed {
            counters::add(|stats| &stats.shadow_refused);
            if counters::may_log() {
                log!("kijko: the rate limit {} would refuse this", policy.name);
            }
        }
    }
    let enforced: Vec<_> = applying(false).take(limiter::MAX_CALLS).collect();
    let calls: Vec<_> = enforced
        .iter()
        .map(|(policy, whose)| call(policy, *whose))
        .collect();
    let decisions = limiter::decide(&calls);
    enforced
        .iter()
        .zip(&decisions[..])
        .map(|((policy, _), decision)| rate(policy, decision))
        .collect()
}

fn call(policy: &RateLimitPolicy, whose: Identity) -> limiter::Call {
    let key = limiter::Key::new(&[&policy.key, whose.bytes()]);
    limiter::Call::new(key, policy.limit, policy.cost)
}

fn rate<'a>(policy: &'a RateLimitPolicy, decision: &RateDecision) -> LimitState<'a> {
    LimitState {
        name: &policy.name,
        quota: policy.limit.burst().into(),
        remaining: decision.remaining.into(),
        window: Some(policy.window),
        reset: Some(decision.reset_after.div_ceil(NANOS)),
        retry_after: (!decision.allowed).then(|| decision.retry_after.div_ceil(NANOS)),
        allowed: decision.allowed,
    }
}

/// The state of a subject's quota of requests. `pending` requests, this one included, are not in the ledger yet.
fn quota(
    name: &'static str,
    subject: &[u8; 16],
    pending: u64,
) -> Result<Option<LimitState<'static>>, String> {
    // Usually cached. Reading may fail, so it happens in a subtransaction.
    let status = match metered_usage::cached_quota_status(subject, request_counter::METER) {
        Some(status) => status,
        None => in_subtransaction(|| metered_usage::quota_status(subject, request_counter::METER))?
            .map_err(|_| "its counter could not be had".to_owned())?,
    };
    Ok(status.map(|status| {
        let used = status.used.saturating_add_unsigned(pending);
        let period = &status.period;
        // A lifetime has no start, and no end unless another period follows.
        let seconds = |from| {
            (from != i64::MIN && period.end != i64::MAX)
                .then(|| clock::seconds_between(from, period.end))
        };
        let reset = seconds(clock::now_micros());
        let allowed = used <= status.limit;
        LimitState {
            name,
            quota: status.limit.max(0) as u64,
            remaining: status.limit.saturating_sub(used).max(0) as u64,
            window: seconds(period.start),
            reset,
            retry_after: reset.filter(|_| !allowed && status.limit > 0),
            allowed,
        }
    }))
}

pub fn write_headers(limits: &[LimitState]) {
    let now = clock::unix_seconds(clock::real_micros());
    let headers =
        response_headers::of_limits(limits, now, guc::rate_limit_headers::are_all_wanted());
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (*name, Some(value.as_str())))
        .collect();
    if !headers.is_empty() {
        headers::add(&headers);
    }
}

pub fn refusal(limit: &LimitState) -> Refusal {
    if [request_counter::METER, API_KEY_QUOTA].contains(&limit.name) {
        let (period, hint) = match limit.reset {
            Some(_) => (
                " of this period",
                "Wait for the next period or raise the limit.",
            ),
            None => ("", "Raise the limit."),
        };
        let details = format!("all {} {}{period} are used", limit.quota, limit.name);
        return Refusal::new("quota_exceeded", &details, Some(hint));
    }
    Refusal::new("rate_limited", &limit.exceeded(), None)
}

/// A setting decides whether the request passes when the limiter itself has failed.
fn apply_failure_mode(then: FailureMode, what: &str, why: &str) -> Result<(), Refusal> {
    match fail_open(then, what, why) {
        true => Ok(()),
        false => {
            let details = format!("{what} failed: {why}");
            Err(Refusal::new("unavailable", &details, None))
        }
    }
}

pub fn fail_open(then: FailureMode, what: &str, why: &str) -> bool {
    if counters::may_log() {
        log!("kijko: {what} failed: {why}");
    }
    let passes = then == FailureMode::Open;
    counters::add(match passes {
        true => |stats| &stats.passed,
        false => |stats| &stats.refused,
    });
    passes
}
