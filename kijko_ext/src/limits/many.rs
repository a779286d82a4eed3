//! `kijko.try_consume_many` and `kijko.consume_many`: one use charged to several subjects, all or nothing.

use pgrx::pg_sys;

use super::charge::{self, Decision, Meter};
use super::consume;
use super::idempotency;
use super::ledger::Entry;
use super::period::Kind;
use super::policy::{self, Policy};
use super::transaction::{Counter, Mark};
use crate::clock;
use crate::pg::sql_function::{Answer, Arguments, Refusal, sql_function};
use crate::verdict::Verdict;

sql_function!(
    kijko_try_consume_many,
    pg_finfo_kijko_try_consume_many,
    try_consume_many
);
sql_function!(
    kijko_consume_many,
    pg_finfo_kijko_consume_many,
    consume_many
);

struct Request<'a> {
    /// In order, so that two calls lock the same keys in the same order.
    subjects: Vec<[u8; 16]>,
    meter: &'a str,
    amount: i64,
    key: Option<&'a str>,
    attributes: Option<pg_sys::Datum>,
}

struct Charge {
    policy: Policy,
    counter: Counter,
    /// What the transaction had reserved before.
    before: Mark,
    decision: Decision,
}

fn try_consume_many(arguments: Arguments) -> Answer {
    let request = request(arguments)?;
    let verdict = charge(&request)?;
    Ok(consume::composite(arguments, verdict))
}

fn consume_many(arguments: Arguments) -> Answer {
    let request = request(arguments)?;
    let verdict = charge(&request)?;
    let allowed = verdict.allowed;
    let verdict = consume::composite(arguments, verdict);
    if allowed {
        Ok(verdict)
    } else {
        Err(consume::refusal(verdict, request.amount))
    }
}

fn request<'a>(arguments: Arguments) -> Result<Request<'a>, Refusal> {
    charge::check_transaction();
    let subjects: Option<Vec<_>> = arguments.uuids(0).unwrap_or_default().into_iter().collect();
    let mut subjects = subjects
        .filter(|s| !s.is_empty())
        .ok_or_else(|| Refusal::invalid("a use needs subjects, none of them null"))?;
    subjects.sort_unstable();
    subjects.dedup();
    let meter = arguments.text(1).filter(|meter| charge::is_meter(meter));
    let attributes = match arguments.datum(4) {
        None => charge::attributes()?,
        Some(own) => Some(charge::joined_attributes(own)?),
    };
    Ok(Request {
        subjects,
        meter: meter.ok_or_else(|| Refusal::invalid("a use needs a meter in lower case"))?,
        amount: consume::amount(arguments, 2)?,
        key: arguments.text(3),
        attributes,
    })
}

fn charge<'a>(request: &Request<'a>) -> Result<Verdict<'a>, Refusal> {
    let now = clock::now_micros();
    if let Some(verdict) = known(request)? {
        return Ok(verdict);
    }
    let mut charges: Vec<Charge> = Vec::with_capacity(request.subjects.len());
    for subject in &request.subjects {
        let meter = Meter {
            subject,
            name: request.meter,
        };
        let policy = policy::of(subject, request.meter, now, Kind::Month);
        let counter = charge::pin(&policy.key, meter, policy.period)?;
        let before = counter.mark();
        let decision = charge::decide(counter, &policy, meter, request.amount, now);
        if !decision.allowed {
            for charged in charges.iter().rev() {
                charged.counter.restore(charged.before, request.amount);
            }
            return Ok(charge::verdict(
                &policy,
                request.meter,
                request.amount,
                &decision,
                now,
            ));
        }
        charges.push(Charge {
            policy,
            counter,
            before,
            decision,
        });
    }
    for (subject, charged) in request.subjects.iter().zip(&charges) {
        book(request, subject, charged, now);
    }
    let tightest = charges.iter().min_by_key(|charged| {
        charged.policy.limit.map_or(i64::MAX, |limit| {
            limit.saturating_sub(charged.decision.used)
        })
    });
    let tightest = tightest.ok_or_else(|| Refusal::invalid("a use needs subjects"))?;
    Ok(charge::verdict(
        &tightest.policy,
        request.meter,
        request.amount,
        &tightest.decision,
        now,
    ))
}

/// The verdict of the first call under the key; only if every subject was charged by it.
fn known<'a>(request: &Request<'a>) -> Result<Option<Verdict<'a>>, Refusal> {
    let Some(key) = request.key else {
        return Ok(None);
    };
    let mut known = Vec::new();
    for subject in &request.subjects {
        known.push(idempotency::begin(
            subject,
            request.meter,
            key,
            request.amount,
        )?);
    }
    let found: Vec<_> = known.iter().flatten().collect();
    if found.is_empty() {
        return Ok(None);
    }
    if found.len() < known.len() {
        return Err(Refusal::new(
            "idempotency_conflict",
            "this key charged only some of these subjects",
            None,
        ));
    }
    let tightest = found.into_iter().min_by_key(|recorded| {
        recorded
            .limit
            .zip(recorded.used)
            .map_or(i64::MAX, |(limit, used)| limit.saturating_sub(used))
    });
    Ok(tightest.map(|recorded| consume::replay(request.meter, recorded)))
}

fn book(request: &Request, subject: &[u8; 16], charged: &Charge, now: i64) {
    let meter = Meter {
        subject,
        name: request.meter,
    };
    let row = Entry {
        idempotency_key: request.key,
        attributes: request.attributes,
        ..charge::entry(
            &charged.policy,
            meter,
            request.amount,
            charged.decision.overage,
            now,
        )
    };
    charge::book(
        charged.counter,
        &charged.policy,
        meter,
        &charged.decision,
        now,
        row,
    );
    if let Some(key) = request.key {
        let recorded = consume::recorded(&charged.policy, &charged.decision);
        idempotency::record(subject, request.meter, key, request.amount, recorded);
    }
}
