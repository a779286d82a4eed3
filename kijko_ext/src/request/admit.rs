//! `kijko.admit_request(organization, user, api_key)`: admits a request, or refuses it; `kijko.admit_known_request()` the
//! same where nothing has to be asked first.

use std::rc::Rc;

use pgrx::prelude::*;

use super::policy::{Asked, Policy, Scope};
use super::told::{self, Limit};
use super::{cache, connection_time, member, statement_time, stats, token, wellformed};
use crate::guc::{self, Failure};
use crate::limits::counted;
use crate::pg::setting;
use crate::pg::sql_function::{Answer, Arguments, Refusal, sql_function};
use crate::pg::subtransaction::in_subtransaction;
use crate::rate_limit::{gcra::Decision, limiter};
use crate::{client, clock, headers, meter};

sql_function!(
    kijko_admit_request,
    pg_finfo_kijko_admit_request,
    admit_request
);
sql_function!(
    kijko_admit_known_request,
    pg_finfo_kijko_admit_known_request,
    admit_known_request
);

const NANOS: u64 = 1_000_000_000;

/// Organization, member, API key.
fn admit_request(arguments: Arguments) -> Answer {
    let [organization, user, api_key] = [0, 1, 2].map(|at| arguments.uuid(at));
    admit(organization, user, api_key)?;
    Ok(pg_sys::Datum::from(true))
}

/// The whole of a request whose member and organization this backend knows; false for every other one, and for a token
/// that is no access token.
fn admit_known_request(_: Arguments) -> Answer {
    let known = match token::fault() {
        None => member::asking(),
        Some(_) => None,
    };
    let Some((user, organization)) = known else {
        return Ok(pg_sys::Datum::from(false));
    };
    admit(Some(organization), Some(user), None)?;
    Ok(pg_sys::Datum::from(true))
}

fn admit(
    organization: Option<[u8; 16]>,
    user: Option<[u8; 16]>,
    api_key: Option<[u8; 16]>,
) -> Result<(), Refusal> {
    let setting = |name| setting::get(name).unwrap_or_default();
    let (method, path) = (setting(c"request.method"), setting(c"request.path"));
    let mut asked = Asked {
        network: None,
        organization,
        user,
        api_key,
        method: &method,
        path: &path,
    };
    // First of all: a request that is refused has been made all the same.
    let pending = asked.organization.map(|subject| meter::count(&subject));
    wellformed::check()?;

    let (tier, policies) = match policies(&asked) {
        Ok(found) => (Some(found.tier), found.policies),
        Err(failure) => fails(guc::on_rate_limit_failure(), "the rate limits", &failure)
            .map(|()| (None, Rc::from([])))?,
    };
    if policies.iter().any(|policy| policy.scope == Scope::Address) {
        asked.network = client::network();
    }
    let mut limits = rates(&policies, &asked);
    if limits.iter().all(|limit| limit.allowed)
        && let (Some(organization), Some(pending)) = (&asked.organization, pending)
    {
        match quota(organization, pending.unwrap_or(1)) {
            Ok(quota) => limits.extend(quota),
            Err(failure) => fails(guc::on_quota_failure(), "the quota of requests", &failure)?,
        }
    }
    let mut refused = None;
    if limits.iter().all(|limit| limit.allowed)
        && let Err(failure) = connection_time::admit(&asked)
    {
        limits.push(failure.limit);
        refused = Some(failure.details);
    }
    tell(&limits);
    if let Some(details) = refused {
        return Err(Refusal::new("rate_limited", &details, None));
    }
    match told::tightest(&limits) {
        Some(limit) if !limit.allowed => return Err(refusal(limit)),
        _ => {}
    }
    if let Some(tier) = tier {
        statement_time::apply(&tier);
    }
    Ok(())
}

fn policies(asked: &Asked) -> Result<cache::OfRequest, String> {
    let (organization, user) = (asked.organization.as_ref(), asked.user.as_ref());
    cache::of_request(organization, user).map_or_else(
        || in_subtransaction(|| cache::read_request(organization, user)),
        Ok,
    )
}

pub fn policies_of(tier: &str) -> Result<Rc<[Policy]>, String> {
    cache::of_tier(tier).map_or_else(|| in_subtransaction(|| cache::read_tier(tier)), Ok)
}

/// Takes from all limits that apply, or from none of them; from those in shadow mode by themselves.
pub fn rates<'a>(policies: &'a [Policy], asked: &Asked) -> Vec<Limit<'a>> {
    let applying = |shadow: bool| {
        let key = move |policy: &'a Policy| Some((policy, policy.key_of(asked)?));
        policies
            .iter()
            .filter(move |policy| policy.shadow == shadow)
            .filter_map(key)
    };
    for (policy, key) in applying(true) {
        let call = limiter::Call::new(&key, policy.limit, policy.cost);
        if !limiter::decide(&[call])[0].allowed {
            stats::add(|stats| &stats.shadow_refused);
            if stats::may_log() {
                log!("kijko: the rate limit {} would refuse this", policy.name);
            }
        }
    }
    let enforced: Vec<_> = applying(false).take(limiter::MAX_CALLS).collect();
    let calls: Vec<_> = enforced
        .iter()
        .map(|(policy, key)| limiter::Call::new(key, policy.limit, policy.cost))
        .collect();
    let decisions = limiter::decide(&calls);
    enforced
        .iter()
        .zip(&decisions[..])
        .map(|((policy, _), decision)| rate(policy, decision))
        .collect()
}

fn rate<'a>(policy: &'a Policy, decision: &Decision) -> Limit<'a> {
    Limit {
        name: &policy.name,
        quota: policy.limit.burst().into(),
        remaining: decision.remaining.into(),
        window: Some(policy.window),
        reset: Some(decision.reset_after.div_ceil(NANOS)),
        retry_after: (!decision.allowed).then(|| decision.retry_after.div_ceil(NANOS)),
        allowed: decision.allowed,
    }
}

/// How the organization's quota of requests stands, with those that are not in the ledger yet, of which this is one.
fn quota(organization: &[u8; 16], pending: u64) -> Result<Option<Limit<'static>>, String> {
    // Mostly it is known; what reads may fail, and is tried in a subtransaction.
    let standing = match counted::known_standing(organization, meter::METER) {
        Some(standing) => standing,
        None => in_subtransaction(|| counted::standing(organization, meter::METER))?
            .map_err(|_| "its counter could not be had".to_owned())?,
    };
    Ok(standing.map(|standing| {
        let used = standing.used.saturating_add_unsigned(pending);
        let period = &standing.period;
        // A lifetime has neither a beginning nor an end, unless another period follows.
        let seconds = |from| {
            (from != i64::MIN && period.end != i64::MAX)
                .then(|| clock::seconds_between(from, period.end))
        };
        let reset = seconds(clock::now_micros());
        let allowed = used <= standing.limit;
        Limit {
            name: meter::METER,
            quota: standing.limit.max(0) as u64,
            remaining: standing.limit.saturating_sub(used).max(0) as u64,
            window: seconds(period.start),
            reset,
            retry_after: reset.filter(|_| !allowed && standing.limit > 0),
            allowed,
        }
    }))
}

fn tell(limits: &[Limit]) {
    let told = told::headers(limits, clock::unix_seconds(clock::real_micros()));
    let told: Vec<_> = told
        .iter()
        .map(|(name, value)| (*name, Some(value.as_str())))
        .collect();
    if !told.is_empty() {
        headers::add(&told);
    }
}

fn refusal(limit: &Limit) -> Refusal {
    if limit.name == meter::METER {
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

/// The limiter itself failed: a setting decides what becomes of the request.
fn fails(then: Failure, what: &str, why: &str) -> Result<(), Refusal> {
    match passes(then, what, why) {
        true => Ok(()),
        false => {
            let details = format!("{what} failed: {why}");
            Err(Refusal::new("unavailable", &details, None))
        }
    }
}

pub fn passes(then: Failure, what: &str, why: &str) -> bool {
    if stats::may_log() {
        log!("kijko: {what} failed: {why}");
    }
    let passes = then == Failure::Open;
    stats::add(match passes {
        true => |stats| &stats.passed,
        false => |stats| &stats.refused,
    });
    passes
}
