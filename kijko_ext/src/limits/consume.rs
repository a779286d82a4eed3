//! `kijko.try_consume` and `kijko.consume`: one use of one subject's meter.

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::pg_sys;

use super::charge::{self, Decision, Meter};
use super::idempotency::{self, Recorded};
use super::ledger::Entry;
use super::period::Kind;
use super::policy;
use crate::pg::sql_function::{self, Answer, Arguments, Refusal, sql_function};
use crate::verdict::Verdict;
use crate::{clock, trust};

sql_function!(kijko_try_consume, pg_finfo_kijko_try_consume, try_consume);
sql_function!(kijko_consume, pg_finfo_kijko_consume, consume);

/// What a call asks for, checked.
struct Request<'a> {
    subject: [u8; 16],
    meter: &'a str,
    amount: i64,
    key: Option<&'a str>,
}

fn try_consume(arguments: Arguments) -> Answer {
    let request = request(arguments)?;
    let verdict = charge(&request)?;
    Ok(composite(arguments, verdict))
}

fn consume(arguments: Arguments) -> Answer {
    let request = request(arguments)?;
    let verdict = charge(&request)?;
    let allowed = verdict.allowed;
    let verdict = composite(arguments, verdict);
    if !allowed {
        return Err(refusal(verdict, request.amount));
    }
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

/// quota_exceeded, with the numbers and the headers.
pub fn refusal(verdict: pg_sys::Datum, amount: i64) -> Refusal {
    let arguments = vec![Some(verdict), Some(pg_sys::Datum::from(amount))];
    Refusal::by("kijko.refuse_use(kijko.verdict,pg_catalog.int8)", arguments)
}

/// A verdict as SQL's composite value.
pub fn composite(arguments: Arguments, verdict: Verdict) -> pg_sys::Datum {
    // SAFETY: called from functions that return kijko.verdict.
    unsafe {
        verdict
            .box_into(&mut FcInfo::from_ptr(arguments.0))
            .sans_lifetime()
    }
}

/// The subject and the meter of a call, its first two arguments.
pub fn meter<'a>(arguments: Arguments) -> Result<([u8; 16], &'a str), Refusal> {
    charge::check_transaction();
    match (arguments.uuid(0), arguments.text(1)) {
        (Some(subject), Some(meter)) if charge::is_meter(meter) => Ok((subject, meter)),
        _ => Err(Refusal::invalid(
            "a use needs a subject, and a meter in lower case",
        )),
    }
}

fn request<'a>(arguments: Arguments) -> Result<Request<'a>, Refusal> {
    let (subject, meter) = meter(arguments)?;
    Ok(Request {
        subject,
        meter,
        amount: amount(arguments, 2)?,
        key: arguments.text(3),
    })
}

/// At least 1: a negative use would be a gift, and a use of nothing is none.
pub fn amount(arguments: Arguments, at: usize) -> Result<i64, Refusal> {
    arguments
        .integer(at)
        .filter(|amount| *amount >= 1)
        .ok_or_else(|| Refusal::invalid("the amount must be at least 1"))
}

fn charge<'a>(request: &Request<'a>) -> Result<Verdict<'a>, Refusal> {
    let now = clock::now_micros();
    let meter = Meter {
        subject: &request.subject,
        name: request.meter,
    };
    if let Some(key) = request.key
        && let Some(recorded) = idempotency::begin(meter.subject, meter.name, key, request.amount)?
    {
        return Ok(replay(request.meter, &recorded));
    }
    let policy = policy::of(meter.subject, meter.name, now, Kind::Month);
    let counter = charge::pin(&policy.key, meter, policy.period)?;
    let decision = charge::decide(counter, &policy, meter, request.amount, now);
    if decision.allowed {
        let row = Entry {
            idempotency_key: request.key,
            attributes: charge::attributes()?,
            ..charge::entry(&policy, meter, request.amount, decision.overage, now)
        };
        charge::book(counter, &policy, meter, &decision, now, row);
        if let Some(key) = request.key {
            idempotency::record(
                meter.subject,
                meter.name,
                key,
                request.amount,
                recorded(&policy, &decision),
            );
        }
    }
    Ok(charge::verdict(
        &policy,
        request.meter,
        request.amount,
        &decision,
        now,
    ))
}

pub fn recorded(policy: &policy::Policy, decision: &Decision) -> Recorded {
    Recorded {
        used: Some(decision.used),
        limit: policy.limit,
        reset_at: charge::reset_at(policy),
        over: decision.over(),
    }
}

/// The verdict of the first call, again.
pub fn replay<'a>(meter: &'a str, recorded: &Recorded) -> Verdict<'a> {
    Verdict {
        allowed: true,
        code: recorded.over.then_some("quota_exceeded"),
        meter: Some(meter),
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
