//! `kijko.consume`, `kijko.consume_many` and their `try_` forms: one use of a meter, charged to one subject or to several,
//! all or nothing.

use pgrx::pg_sys;

use super::arguments;
use crate::pg::sql_function::{self, Answer, Arguments, Refusal, sql_function};
use crate::pg::value::Held;
use crate::quota::counter::counter_pins::{Counter, Mark};
use crate::quota::engine::{self, QuotaDecision};
use crate::quota::idempotency::{self, Recorded};
use crate::quota::ledger::entry::LedgerEntry;
use crate::quota::meter_key::{MeterKey, is_meter};
use crate::quota::policy::limit_cache::{self, QuotaPolicy};
use crate::quota::policy::period::PeriodKind;
use crate::verdict::Verdict;
use crate::{clock, trust};

sql_function!(kijko_try_consume, pg_finfo_kijko_try_consume, try_consume);
sql_function!(kijko_consume, pg_finfo_kijko_consume, consume);
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

/// The checked arguments of a call.
struct Request<'a> {
    subjects: Subjects,
    meter: &'a str,
    amount: i64,
    idempotency_key: Option<&'a str>,
    attributes: Option<Held<'a>>,
}

enum Subjects {
    /// One subject needs no list, which would be allocated for every use.
    One([u8; 16]),
    /// Sorted, so that two calls lock the same keys in the same order.
    Many(Vec<[u8; 16]>),
}

impl Subjects {
    fn all(&self) -> &[[u8; 16]] {
        match self {
            Self::One(subject) => std::slice::from_ref(subject),
            Self::Many(subjects) => subjects,
        }
    }
}

/// One subject's part of the use.
struct Charge {
    policy: QuotaPolicy,
    counter: Counter,
    /// The counter before this use.
    mark: Mark,
    decision: QuotaDecision,
}

fn try_consume(arguments: Arguments) -> Answer {
    let verdict = charge(&request_of_one(arguments)?)?;
    Ok(arguments::composite(arguments, verdict))
}

fn try_consume_many(arguments: Arguments) -> Answer {
    let verdict = charge(&request_of_many(arguments)?)?;
    Ok(arguments::composite(arguments, verdict))
}

fn consume(arguments: Arguments) -> Answer {
    let verdict = charge_or_refuse(arguments, &request_of_one(arguments)?)?;
    if trust::is_request() {
        // SAFETY: one argument, of the declared type.
        unsafe {
            pg_sys::OidFunctionCall1Coll(
                sql_function::find("kijko.limit_headers(kijko.verdict)"),
                pg_sys::InvalidOid,
                verdict,
            )
        };
    }
    Ok(verdict)
}

fn consume_many(arguments: Arguments) -> Answer {
    charge_or_refuse(arguments, &request_of_many(arguments)?)
}

fn charge_or_refuse(arguments: Arguments, request: &Request) -> Answer {
    let verdict = charge(request)?;
    let allowed = verdict.allowed;
    let verdict = arguments::composite(arguments, verdict);
    if allowed {
        Ok(verdict)
    } else {
        Err(arguments::refusal(verdict, request.amount))
    }
}

fn request_of_one(arguments: Arguments<'_>) -> Result<Request<'_>, Refusal> {
    let (subject, meter) = arguments::subject_and_meter(arguments)?;
    Ok(Request {
        subjects: Subjects::One(subject),
        meter,
        amount: arguments::amount(arguments, 2)?,
        idempotency_key: arguments.text(3),
        attributes: arguments::attributes(arguments, None)?,
    })
}

fn request_of_many(arguments: Arguments<'_>) -> Result<Request<'_>, Refusal> {
    engine::check_transaction();
    let subjects: Option<Vec<_>> = arguments.uuids(0).unwrap_or_default().into_iter().collect();
    let mut subjects = subjects
        .filter(|subjects| !subjects.is_empty())
        .ok_or_else(|| Refusal::invalid("a use needs subjects, none of them null"))?;
    subjects.sort_unstable();
    subjects.dedup();
    let meter = arguments.text(1).filter(|meter| is_meter(meter));
    Ok(Request {
        subjects: Subjects::Many(subjects),
        meter: meter.ok_or_else(|| Refusal::invalid("a use needs a meter in lower case"))?,
        amount: arguments::amount(arguments, 2)?,
        idempotency_key: arguments.text(3),
        attributes: arguments::attributes(arguments, arguments.held(4))?,
    })
}

impl<'a> Request<'a> {
    fn keys(&self) -> impl Iterator<Item = MeterKey<'_>> {
        self.subjects.all().iter().map(|subject| MeterKey {
            subject,
            meter: self.meter,
        })
    }

    fn verdict(&self, policy: &QuotaPolicy, decision: &QuotaDecision, now: i64) -> Verdict<'a> {
        engine::verdict(policy, self.meter, self.amount, decision, now)
    }
}

/// Charges every subject, or none. The verdict is that of the subject that refused, or else of the one with the least left.
fn charge<'a>(request: &Request<'a>) -> Result<Verdict<'a>, Refusal> {
    let now = clock::now_micros();
    if let Some(verdict) = replayed(request)? {
        return Ok(verdict);
    }
    let mut charges: Vec<Charge> = Vec::with_capacity(request.subjects.all().len());
    for key in request.keys() {
        let policy = limit_cache::of(key.subject, key.meter, now, PeriodKind::Month);
        let counter = engine::pin(&policy.key, key, policy.period)?;
        let mark = counter.mark();
        let decision = engine::decide(counter, &policy, key, request.amount, now);
        if !decision.allowed {
            for charge in charges.iter().rev() {
                charge.counter.restore(charge.mark, request.amount);
            }
            return Ok(request.verdict(&policy, &decision, now));
        }
        charges.push(Charge {
            policy,
            counter,
            mark,
            decision,
        });
    }
    for (key, charge) in request.keys().zip(&charges) {
        record(request, key, charge, now);
    }
    let tightest = charges.iter().min_by_key(|charge| {
        charge
            .policy
            .limit
            .map_or(i64::MAX, |limit| limit.saturating_sub(charge.decision.used))
    });
    let tightest = tightest.ok_or_else(|| Refusal::invalid("a use needs subjects"))?;
    Ok(request.verdict(&tightest.policy, &tightest.decision, now))
}

/// Writes the ledger entry and the idempotency key of one subject's part.
fn record(request: &Request, key: MeterKey, charge: &Charge, now: i64) {
    let Charge {
        policy, decision, ..
    } = charge;
    let entry = LedgerEntry {
        idempotency_key: request.idempotency_key,
        attributes: request.attributes,
        ..engine::new_entry(policy, key, request.amount, decision.overage, now)
    };
    engine::record(charge.counter, policy, decision, now, entry);
    if let Some(idempotency_key) = request.idempotency_key {
        let verdict = idempotency::recorded(policy, decision);
        idempotency::record(key, idempotency_key, request.amount, verdict);
    }
}

/// The verdict of the first call under the key, if that call charged the same subjects.
fn replayed<'a>(request: &Request<'a>) -> Result<Option<Verdict<'a>>, Refusal> {
    let Some(idempotency_key) = request.idempotency_key else {
        return Ok(None);
    };
    let mut recorded = Vec::with_capacity(request.subjects.all().len());
    for key in request.keys() {
        recorded.push(idempotency::begin(key, idempotency_key, request.amount)?);
    }
    let found: Vec<_> = recorded.iter().flatten().collect();
    if found.is_empty() {
        return Ok(None);
    }
    if found.len() < recorded.len() {
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
    Ok(tightest.map(|recorded| replay(request.meter, recorded)))
}

fn replay<'a>(meter: &'a str, recorded: &Recorded) -> Verdict<'a> {
    Verdict {
        allowed: true,
        code: recorded.is_over.then_some("quota_exceeded"),
        meter: Some(meter.into()),
        used: recorded.used,
        limit: recorded.limit,
        remaining: recorded
            .limit
            .zip(recorded.used)
            .map(|(limit, used)| limit.saturating_sub(used).max(0)),
        reset_at: recorded.reset_at,
        retry_after: None,
    }
}
