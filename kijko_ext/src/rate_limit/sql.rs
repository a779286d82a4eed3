//! `kijko.rate_limit` and `kijko.rate_limits` for SQL.

use pgrx::datum::Interval;
use pgrx::prelude::*;

use super::gcra::{RateDecision, RateLimit};
use super::limiter::{self, Call, Key};
use crate::errors;
use crate::verdict::Verdict;

const DAY_NANOS: u64 = 86_400 * 1_000_000_000;

/// One call of `key`: `rate` in `per`, at most `burst` at once (by default `rate`), costing `cost`.
///
/// Nothing is written to the database, so it works in READ ONLY transactions and on standbys, and a rollback gives
/// nothing back. The arguments come from the operator, not from a client, so an invalid one is an error and not a verdict.
#[pg_extern(volatile, parallel_unsafe, requires = ["verdict"])]
fn rate_limit<'a>(
    key: Option<&'a str>,
    rate: Option<i32>,
    per: Option<Interval>,
    burst: default!(Option<i32>, "null"),
    cost: default!(Option<i32>, "1"),
) -> Verdict<'a> {
    let limit = RequestedLimit::new(key, rate, per, burst, cost);
    limit.verdict(&limiter::decide(&[limit.call()])[0])
}

/// Whether one call of `key` may go on: `rate_limit` without the verdict.
#[pg_extern(volatile, parallel_unsafe)]
pub fn allow(
    key: Option<&str>,
    rate: Option<i32>,
    per: Option<Interval>,
    burst: default!(Option<i32>, "null"),
    cost: default!(Option<i32>, "1"),
) -> bool {
    let limit = RequestedLimit::new(key, rate, per, burst, cost);
    limiter::decide(&[limit.call()])[0].allowed
}

/// Several limits at once, all or nothing: the arrays' elements belong together, and null takes a default as above.
#[pg_extern(volatile, parallel_unsafe, requires = ["verdict"])]
pub fn rate_limits<'a>(
    keys: Vec<Option<String>>,
    rates: Array<'a, i32>,
    pers: Array<'a, Interval>,
    bursts: default!(Option<Array<'a, i32>>, "null"),
    costs: default!(Option<Array<'a, i32>>, "null"),
) -> Verdict<'static> {
    let of = |array: &Option<Array<'a, i32>>, at| array.as_ref().and_then(|a| a.get(at)).flatten();
    let same =
        |array: &Option<Array<'a, i32>>| array.as_ref().is_none_or(|a| a.len() == keys.len());
    if keys.is_empty() || keys.len() > limiter::MAX_CALLS {
        errors::bad_argument("a call has 1 to 16 limits");
    }
    if rates.len() != keys.len() || pers.len() != keys.len() || !same(&bursts) || !same(&costs) {
        errors::bad_argument("the arrays must be of one length");
    }
    let limits: Vec<_> = (0..keys.len())
        .map(|at| {
            RequestedLimit::new(
                keys[at].as_deref(),
                rates.get(at).flatten(),
                pers.get(at).flatten(),
                of(&bursts, at),
                of(&costs, at).or(Some(1)),
            )
        })
        .collect();
    let calls: Vec<_> = limits.iter().map(RequestedLimit::call).collect();
    let decisions = limiter::decide(&calls);
    let all = || limits.iter().zip(&decisions);
    let part = |(limit, decision): &(&RequestedLimit, &RateDecision)| {
        u64::from(decision.remaining) * 1_000_000 / u64::from(limit.policy.burst())
    };
    let refusing = all().filter(|(_, decision)| !decision.allowed);
    let (limit, decision) = refusing
        .max_by_key(|(_, decision)| decision.retry_after)
        .or_else(|| all().min_by_key(part))
        .unwrap_or_else(|| errors::bad_argument("a call has 1 to 16 limits"));
    limit.verdict(decision).into_owned()
}

/// What one call asks for, checked.
struct RequestedLimit<'a> {
    key: &'a str,
    policy: RateLimit,
    cost: u32,
}

impl<'a> RequestedLimit<'a> {
    fn new(
        key: Option<&'a str>,
        rate: Option<i32>,
        per: Option<Interval>,
        burst: Option<i32>,
        cost: Option<i32>,
    ) -> Self {
        let key = key.unwrap_or_else(|| errors::bad_argument("the key must not be null"));
        let rate = positive(rate, "the rate must be at least 1");
        let burst = burst.map_or(rate, |burst| {
            positive(Some(burst), "the burst must be at least 1")
        });
        let cost = positive(cost, "the cost must be at least 1");
        let per = per.as_ref().and_then(interval_nanos);
        let per = per.unwrap_or_else(|| {
            errors::bad_argument("the period must be a positive interval without months")
        });
        let policy = RateLimit::new(rate, per, burst).unwrap_or_else(|_| {
            errors::bad_argument(
                "the rate must be below one in a nanosecond, and the burst worth less than 292 years",
            )
        });
        if cost > policy.burst() {
            errors::bad_argument(
                "the cost is larger than the burst, so the call could never be allowed",
            );
        }
        Self { key, policy, cost }
    }

    fn call(&self) -> Call {
        Call::new(Key::new(&[self.key.as_bytes()]), self.policy, self.cost)
    }

    fn verdict(&self, decision: &RateDecision) -> Verdict<'a> {
        let burst = self.policy.burst();
        let now = unsafe { pg_sys::GetCurrentTimestamp() };
        Verdict {
            allowed: decision.allowed,
            code: (!decision.allowed).then_some("rate_limited"),
            meter: Some(self.key.into()),
            used: Some(i64::from(burst - decision.remaining)),
            limit: Some(i64::from(burst)),
            remaining: Some(i64::from(decision.remaining)),
            reset_at: Some(now.saturating_add(decision.reset_after.div_ceil(1_000) as i64)),
            retry_after: (!decision.allowed).then(|| whole_seconds(decision.retry_after)),
        }
    }
}

fn positive(value: Option<i32>, message: &str) -> u32 {
    value
        .and_then(|value| u32::try_from(value).ok())
        .filter(|value| *value > 0)
        .unwrap_or_else(|| errors::bad_argument(message))
}

/// Days have 24 hours. None for months, whose length varies, and for what is not positive.
fn interval_nanos(interval: &Interval) -> Option<u64> {
    if interval.months() != 0 {
        return None;
    }
    let days = i128::from(interval.days()) * i128::from(DAY_NANOS);
    u64::try_from(days + i128::from(interval.micros()) * 1_000)
        .ok()
        .filter(|nanos| *nanos > 0)
}

/// Rounded up: a client that waits that long is let in.
fn whole_seconds(nanos: u64) -> i32 {
    i32::try_from(nanos.div_ceil(1_000_000_000)).unwrap_or(i32::MAX)
}
