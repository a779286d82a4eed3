//! The decision on a use, between the SQL edge (consume.rs, hold.rs, gauge.rs) and the counters.

use pgrx::pg_sys;

use super::ledger::{self, Entry};
use super::period::{Kind, Period};
use super::policy::{Over, Policy};
use super::slot::Reserved;
use super::table::Key;
use super::transaction::{self, Counter, Full};
use super::{hold, threshold};
use crate::pg::datum;
use crate::pg::sql_function::Refusal;
use crate::verdict::Verdict;
use crate::{clock, guc};

/// Whose what is used.
#[derive(Clone, Copy)]
pub struct Meter<'a> {
    pub subject: &'a [u8; 16],
    pub name: &'a str,
}

/// What was decided.
#[derive(Clone, Copy, Debug)]
pub struct Decision {
    pub allowed: bool,
    /// Units, with this use if it was allowed.
    pub used: i64,
    /// The part of this use that lies above the limit.
    pub overage: i64,
}

impl Decision {
    /// Above a limit that flags or bills, or refused.
    pub fn over(&self) -> bool {
        !self.allowed || self.overage > 0
    }
}

/// Uses are written by the transaction, or not at all: there is no other way to be exact.
pub fn check_transaction() {
    let name = c"a use of a quota";
    // SAFETY: each raises the standard error, or does nothing.
    unsafe {
        pg_sys::PreventCommandDuringRecovery(name.as_ptr());
        pg_sys::PreventCommandIfReadOnly(name.as_ptr());
        pg_sys::PreventCommandIfParallelMode(name.as_ptr());
    }
}

/// The same rule as the check of kijko.limits (tables.sql).
pub fn is_meter(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.'))
}

/// Pins the counter of a policy's period.
pub fn pin(key: &Key, meter: Meter, period: Period) -> Result<Counter, Refusal> {
    Counter::pin(key, || ledger::load(meter.subject, meter.name, period.start)).map_err(|Full| {
        Refusal::new(
            "unavailable",
            "the counter could not be had: it is still being loaded, or all slots it may take are in use by running transactions",
            Some("Look for long transactions and locks on kijko.ledger; raise kijko.quota_slots if kijko.stats() counts quota.full."),
        )
    })
}

/// What a counter has, for who only looks. On a standby nobody would tell it what the primary writes, and after a promotion
/// it would still be there: summed up each time, and not kept.
pub fn used(policy: &Policy, meter: Meter) -> Result<i64, Refusal> {
    // SAFETY: reads a variable.
    if unsafe { pg_sys::RecoveryInProgress() } {
        return Ok(ledger::load(meter.subject, meter.name, policy.period.start).used);
    }
    match transaction::peek(&policy.key) {
        Some(used) => Ok(used),
        None => Ok(pin(&policy.key, meter, policy.period)?.used()),
    }
}

/// Takes `amount` if the policy lets it. Holds that have expired are swept when, and only when, they are in the way.
pub fn decide(counter: Counter, policy: &Policy, meter: Meter, amount: i64, now: i64) -> Decision {
    let decision = take(counter, policy, amount);
    if decision.allowed || counter.slot().next_expiry() > now {
        return decision;
    }
    counter.slot().looked_for_expired(now + clock::SECOND);
    let freed = hold::expire(meter, policy.period.start, now);
    if freed == 0 {
        return decision;
    }
    counter.credit_at_commit(freed);
    take(counter, policy, amount)
}

fn take(counter: Counter, policy: &Policy, amount: i64) -> Decision {
    let ceiling = match (policy.limit, policy.over) {
        (Some(limit), Over::Refuse) => limit,
        _ => i64::MAX,
    };
    match counter.take(amount, ceiling) {
        Reserved::Yes(used) => Decision {
            allowed: true,
            used,
            overage: policy.overage(used, amount, 0),
        },
        Reserved::No(used) => Decision {
            allowed: false,
            used,
            overage: 0,
        },
    }
}

/// Adds what has happened to a counter, whatever the limit says; a negative amount counts from the commit on.
pub fn book_amount(counter: Counter, meter: Meter, amount: i64) -> Result<(), Refusal> {
    if amount < 0 {
        return give_back(counter, meter, amount);
    }
    match counter.take(amount, i64::MAX) {
        Reserved::Yes(_) => Ok(()),
        Reserved::No(used) => Err(beyond_numbers(meter, used, amount)),
    }
}

/// Takes something back at commit; a negative amount, whose opposite must be a number, too.
pub fn give_back(counter: Counter, meter: Meter, amount: i64) -> Result<(), Refusal> {
    let used = counter.used();
    let opposite = amount.checked_neg();
    let credit = opposite.and_then(|opposite| counter.credit().checked_add(opposite));
    match (opposite, used.checked_add(amount), credit) {
        (Some(opposite), Some(_), Some(_)) => {
            counter.credit_at_commit(opposite);
            Ok(())
        }
        _ => Err(beyond_numbers(meter, used, amount)),
    }
}

fn beyond_numbers(meter: Meter, used: i64, change: i64) -> Refusal {
    let name = meter.name;
    Refusal::invalid(&format!(
        "{used} {name} and {change} is more than can be counted"
    ))
}

/// Writes an allowed use: its row, and the thresholds it crosses.
pub fn book(
    counter: Counter,
    policy: &Policy,
    meter: Meter,
    decision: &Decision,
    now: i64,
    row: Entry,
) {
    ledger::write(&row);
    threshold::cross(
        counter,
        policy,
        meter.subject,
        meter.name,
        decision.used,
        now,
    );
}

/// The row of a use of now.
pub fn entry<'a>(
    policy: &Policy,
    meter: Meter<'a>,
    amount: i64,
    overage: i64,
    now: i64,
) -> Entry<'a> {
    Entry {
        subject: meter.subject,
        meter: meter.name,
        period_start: policy.period.start,
        amount,
        overage,
        kind: "use",
        occurred_at: now,
        idempotency_key: None,
        actor: None,
        reason: None,
        attributes: None,
    }
}

/// The attributes of a call, with those that the transaction has set for its uses: the key of a request, for instance.
/// The call's own win.
pub fn joined_attributes(own: pg_sys::Datum) -> Result<pg_sys::Datum, Refusal> {
    if !datum::is_object(own) {
        return Err(Refusal::invalid("the attributes must be a JSON object"));
    }
    Ok(attributes()?.map_or(own, |of_all| datum::json_join(of_all, own)))
}

/// The attributes that the transaction has set for its uses.
pub fn attributes() -> Result<Option<pg_sys::Datum>, Refusal> {
    let Some(text) = guc::usage_attributes() else {
        return Ok(None);
    };
    let attributes = datum::json_datum(&text);
    if datum::is_object(attributes) {
        Ok(Some(attributes))
    } else {
        Err(Refusal::invalid(
            "kijko.usage_attributes must be a JSON object",
        ))
    }
}

pub fn verdict<'a>(
    policy: &Policy,
    meter: &'a str,
    amount: i64,
    decision: &Decision,
    now: i64,
) -> Verdict<'a> {
    // A new period helps only those who ask for no more than it holds.
    let waits = !decision.allowed
        && policy.kind != Kind::Lifetime
        && policy.limit.is_some_and(|limit| amount <= limit);
    Verdict {
        allowed: decision.allowed,
        code: decision.over().then_some("quota_exceeded"),
        meter: Some(meter),
        used: Some(decision.used),
        limit: policy.limit,
        remaining: policy
            .limit
            .map(|limit| limit.saturating_sub(decision.used).max(0)),
        reset_at: reset_at(policy),
        retry_after: waits.then(|| seconds_until(policy.period.end, now)),
    }
}

/// None for a lifetime, which has no end.
pub fn reset_at(policy: &Policy) -> Option<i64> {
    (policy.period.end != i64::MAX).then_some(policy.period.end)
}

/// Rounded up: who waits that long is in the new period.
fn seconds_until(end: i64, now: i64) -> i32 {
    i32::try_from(clock::seconds_between(now, end)).unwrap_or(i32::MAX)
}
