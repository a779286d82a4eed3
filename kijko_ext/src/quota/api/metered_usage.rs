//! For uses that another module counts in batches (crate::request_counter): the state of a meter, and recording a batch. The uses have
//! happened, so they are recorded whatever the limit is.

use crate::clock;
use crate::pg::query;
use crate::pg::sql_function::Refusal;
use crate::quota::counter::counter_pins;
use crate::quota::engine::{self, QuotaDecision};
use crate::quota::meter_key::MeterKey;
use crate::quota::policy::limit_cache::{self, OveragePolicy, QuotaPolicy};
use crate::quota::policy::period::{Period, PeriodKind};

/// The state of a meter whose limit refuses.
pub struct QuotaStatus {
    /// Committed to the ledger, or being written to it.
    pub used: i64,
    pub limit: i64,
    pub period: Period,
}

/// None when nothing is refused: there is no limit, or it flags or bills. Never writes.
pub fn quota_status(subject: &[u8; 16], meter: &str) -> Result<Option<QuotaStatus>, Refusal> {
    let policy = limit_cache::of(subject, meter, clock::now_micros(), PeriodKind::Month);
    let Some(limit) = refusing_limit(&policy) else {
        return Ok(None);
    };
    Ok(Some(QuotaStatus {
        used: engine::used(&policy, MeterKey { subject, meter })?,
        limit,
        period: policy.period,
    }))
}

/// The same from caches alone, so it cannot fail. The outer None means that the policy or the counter is not loaded.
pub fn cached_quota_status(subject: &[u8; 16], meter: &str) -> Option<Option<QuotaStatus>> {
    let now = clock::now_micros();
    let policy = limit_cache::cached(subject, meter, now, PeriodKind::Month)?;
    let Some(limit) = refusing_limit(&policy) else {
        return Some(None);
    };
    let used = counter_pins::peek(&policy.key)?;
    Some(Some(QuotaStatus {
        used,
        limit,
        period: policy.period,
    }))
}

fn refusing_limit(policy: &QuotaPolicy) -> Option<i64> {
    policy
        .limit
        .filter(|_| matches!(policy.overage_policy, OveragePolicy::Refuse))
}

/// Records an amount. `counted` is called when the counter has it, before the entry is written.
pub fn record(
    subject: &[u8; 16],
    meter: &str,
    amount: i64,
    counted: impl FnOnce(),
) -> Result<(), Refusal> {
    let now = clock::now_micros();
    let key = MeterKey { subject, meter };
    let policy = limit_cache::of(subject, meter, now, PeriodKind::Month);
    let counter = engine::pin(&policy.key, key, policy.period)?;
    engine::apply(counter, key, amount)?;
    counted();
    let used = counter.used();
    let decision = QuotaDecision {
        allowed: true,
        used,
        overage: policy.overage(used, amount, 0),
    };
    let entry = engine::new_entry(&policy, key, amount, decision.overage, now);
    engine::record(counter, &policy, &decision, now, entry);
    Ok(())
}

/// Whether this database has the extension.
pub fn is_installed() -> bool {
    query::find_table(c"ledger_partitions").is_some()
}
