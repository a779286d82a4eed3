//! The decision on a use, between the functions for SQL (api) and the counters.

use pgrx::pg_sys;

use super::counter::counter_pins::{self, Counter, PinError};
use super::counter::slot::Reserved;
use super::counter::slot_table::CounterKey;
use super::hold::expire::expire;
use super::ledger::entry::{self, LedgerEntry};
use super::ledger::load::load;
use super::meter_key::MeterKey;
use super::policy::limit_cache::{OveragePolicy, QuotaPolicy};
use super::policy::period::{Period, PeriodKind};
use super::threshold::record_threshold;
use crate::clock;
use crate::pg::plain_calls;
use crate::pg::sql_function::Refusal;
use crate::verdict::Verdict;

/// The decision on one use.
#[derive(Clone, Copy, Debug)]
pub struct QuotaDecision {
    pub allowed: bool,
    /// Units, including this use if it was allowed.
    pub used: i64,
    /// The part of this use that lies above the limit.
    pub overage: i64,
}

impl QuotaDecision {
    /// Refused, or above a limit that flags or bills.
    pub fn is_over(&self) -> bool {
        !self.allowed || self.overage > 0
    }
}

/// Raises an error where a use cannot be written: counters are exact only if each use is a row of its transaction.
pub fn check_transaction() {
    // SAFETY: reads a variable.
    let is_read_only = unsafe { pg_sys::XactReadOnly };
    if !(is_read_only || plain_calls::RecoveryInProgress() || plain_calls::IsInParallelMode()) {
        return;
    }
    let name = c"a use of a quota";
    // SAFETY: each raises the standard error, or does nothing.
    unsafe {
        pg_sys::PreventCommandDuringRecovery(name.as_ptr());
        pg_sys::PreventCommandIfReadOnly(name.as_ptr());
        pg_sys::PreventCommandIfParallelMode(name.as_ptr());
    }
}

/// Pins the counter of a period, loading it if necessary.
pub fn pin(counter_key: &CounterKey, key: MeterKey, period: Period) -> Result<Counter, Refusal> {
    Counter::pin(counter_key, || load(key, period.start)).map_err(|error| match error {
        PinError::Full => Refusal::new(
            "unavailable",
            "the counter could not be loaded: another transaction is loading it, or running transactions use every slot that it may take",
            Some("Look for long transactions and locks on kijko.ledger. Raise kijko.quota_slots if kijko.stats() counts quota.full."),
        ),
        PinError::Share(most) => Refusal::new(
            "invalid_input",
            &format!("a transaction uses at most {most} counters of one subject, and a request as many in all"),
            Some("Use several transactions, or raise kijko.quota_slots."),
        ),
    })
}

/// Reads a counter. A standby sums the tables each time and keeps nothing: the primary cannot update the standby's shared
/// memory, and a counter loaded there would still be present after a promotion.
pub fn used(policy: &QuotaPolicy, key: MeterKey) -> Result<i64, Refusal> {
    if plain_calls::RecoveryInProgress() {
        return Ok(load(key, policy.period.start).used);
    }
    match counter_pins::peek(&policy.key) {
        Some(used) => Ok(used),
        None => Ok(pin(&policy.key, key, policy.period)?.used()),
    }
}

/// Reserves `amount` if the policy allows it. Ends expired holds only when they are in the way.
pub fn decide(
    counter: Counter,
    policy: &QuotaPolicy,
    key: MeterKey,
    amount: i64,
    now: i64,
) -> QuotaDecision {
    let decision = reserve(counter, policy, amount);
    if decision.allowed || counter.slot().next_expiry() > now {
        return decision;
    }
    counter.slot().postpone_expiry_search(now + clock::SECOND);
    let expired = expire(key, policy.period.start, now);
    if expired == 0 {
        return decision;
    }
    counter.release_at_commit(expired);
    reserve(counter, policy, amount)
}

fn reserve(counter: Counter, policy: &QuotaPolicy, amount: i64) -> QuotaDecision {
    let ceiling = match (policy.limit, policy.overage_policy) {
        (Some(limit), OveragePolicy::Refuse) => limit,
        _ => i64::MAX,
    };
    match counter.reserve(amount, ceiling) {
        Reserved::Yes(used) => QuotaDecision {
            allowed: true,
            used,
            overage: policy.overage(used, amount, 0),
        },
        Reserved::No(used) => QuotaDecision {
            allowed: false,
            used,
            overage: 0,
        },
    }
}

/// Applies an amount whatever the limit is, for a use that has already happened. A negative amount counts from the commit on.
pub fn apply(counter: Counter, key: MeterKey, amount: i64) -> Result<(), Refusal> {
    if amount < 0 {
        return release(counter, key, amount);
    }
    match counter.reserve(amount, i64::MAX) {
        Reserved::Yes(_) => Ok(()),
        Reserved::No(used) => Err(overflow(key, used, amount)),
    }
}

/// Applies a negative amount at commit. Refused when a counter would overflow.
pub fn release(counter: Counter, key: MeterKey, amount: i64) -> Result<(), Refusal> {
    let used = counter.used();
    let opposite = amount.checked_neg();
    let pending = opposite.and_then(|opposite| counter.pending_release().checked_add(opposite));
    match (opposite, used.checked_add(amount), pending) {
        (Some(opposite), Some(_), Some(_)) => {
            counter.release_at_commit(opposite);
            Ok(())
        }
        _ => Err(overflow(key, used, amount)),
    }
}

fn overflow(key: MeterKey, used: i64, change: i64) -> Refusal {
    Refusal::invalid(&format!(
        "{used} {} changed by {change} is outside the range of bigint",
        key.meter
    ))
}

/// Writes the entry of an allowed use, and the thresholds that the use has reached.
pub fn record(
    counter: Counter,
    policy: &QuotaPolicy,
    decision: &QuotaDecision,
    now: i64,
    entry: LedgerEntry,
) {
    entry::write(&entry);
    record_threshold(counter, policy, entry.key, decision.used, now);
}

/// The entry of a use at `now`.
pub fn new_entry<'a>(
    policy: &QuotaPolicy,
    key: MeterKey<'a>,
    amount: i64,
    overage: i64,
    now: i64,
) -> LedgerEntry<'a> {
    LedgerEntry {
        key,
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

pub fn verdict<'a>(
    policy: &QuotaPolicy,
    meter: &'a str,
    amount: i64,
    decision: &QuotaDecision,
    now: i64,
) -> Verdict<'a> {
    // Waiting for a new period helps only if the amount fits its limit.
    let waits = !decision.allowed
        && policy.kind != PeriodKind::Lifetime
        && policy.limit.is_some_and(|limit| amount <= limit);
    Verdict {
        allowed: decision.allowed,
        code: decision.is_over().then_some("quota_exceeded"),
        meter: Some(meter.into()),
        used: Some(decision.used),
        limit: policy.limit,
        remaining: policy
            .limit
            .map(|limit| limit.saturating_sub(decision.used).max(0)),
        reset_at: reset_at(policy),
        retry_after: waits.then(|| seconds_until(policy.period.end, now)),
    }
}

/// None for a lifetime.
pub fn reset_at(policy: &QuotaPolicy) -> Option<i64> {
    (policy.period.end != i64::MAX).then_some(policy.period.end)
}

/// Rounded up, so that the new period has begun by then.
fn seconds_until(end: i64, now: i64) -> i32 {
    i32::try_from(clock::seconds_between(now, end)).unwrap_or(i32::MAX)
}
