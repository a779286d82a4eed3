//! For what is counted elsewhere, many uses at a time (crate::request_counter): how a subject stands, and booking what was counted.
//! The uses have happened, so they are booked whatever the limit says.

use super::charge::{self, Decision, Meter};
use super::period::{Kind, Period};
use super::policy::{self, Over, Policy};
use super::transaction;
use crate::clock;
use crate::pg::query;
use crate::pg::sql_function::Refusal;

pub struct Standing {
    /// Of what is in the ledger, or is being written to it.
    pub used: i64,
    pub limit: i64,
    pub period: Period,
}

/// None when nothing is refused: no limit, or one that lets everything pass. Reads, if anything, and never writes.
pub fn standing(subject: &[u8; 16], name: &str) -> Result<Option<Standing>, Refusal> {
    let policy = policy::of(subject, name, clock::now_micros(), Kind::Month);
    let Some(limit) = refusing(&policy) else {
        return Ok(None);
    };
    Ok(Some(Standing {
        used: charge::used(&policy, Meter { subject, name })?,
        limit,
        period: policy.period,
    }))
}

/// The same without reading anything, so that it cannot fail: None when the policy or the counter is not loaded.
pub fn known_standing(subject: &[u8; 16], name: &str) -> Option<Option<Standing>> {
    let now = clock::now_micros();
    let policy = policy::known(subject, name, now, Kind::Month)?;
    let Some(limit) = refusing(&policy) else {
        return Some(None);
    };
    let used = transaction::peek(&policy.key)?;
    Some(Some(Standing {
        used,
        limit,
        period: policy.period,
    }))
}

fn refusing(policy: &Policy) -> Option<i64> {
    policy.limit.filter(|_| matches!(policy.over, Over::Refuse))
}

/// Books an amount. `taken` is called when the counter has it, before the row is written.
pub fn book(
    subject: &[u8; 16],
    name: &str,
    amount: i64,
    taken: impl FnOnce(),
) -> Result<(), Refusal> {
    let now = clock::now_micros();
    let meter = Meter { subject, name };
    let policy = policy::of(subject, name, now, Kind::Month);
    let counter = charge::pin(&policy.key, meter, policy.period)?;
    charge::book_amount(counter, meter, amount)?;
    taken();
    let used = counter.used();
    let decision = Decision {
        allowed: true,
        used,
        overage: policy.overage(used, amount, 0),
    };
    let row = charge::entry(&policy, meter, amount, decision.overage, now);
    charge::book(counter, &policy, meter, &decision, now, row);
    Ok(())
}

/// Whether this database has the extension.
pub fn installed() -> bool {
    query::find_table(c"ledger_partitions").is_some()
}
