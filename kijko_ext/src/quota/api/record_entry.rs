//! `kijko.record_entry`: records what has already happened, whatever the limit is: settled holds, corrections, past events.

use pgrx::pg_sys;

use super::arguments;
use crate::clock;
use crate::pg::query;
use crate::pg::sql_function::{Answer, Arguments, sql_function};
use crate::quota::counter::slot_table::CounterKey;
use crate::quota::engine::{self, QuotaDecision};
use crate::quota::idempotency;
use crate::quota::ledger::entry::{self, LedgerEntry};
use crate::quota::meter_key::MeterKey;
use crate::quota::policy::limit_cache;
use crate::quota::policy::period::{Period, PeriodKind};
use crate::quota::threshold::record_threshold;

sql_function!(
    kijko_record_entry,
    pg_finfo_kijko_record_entry,
    record_entry
);

/// The kinds of entry that SQL records.
const KINDS: [&str; 4] = ["correction", "backfill", "settle", "import"];

/// `kijko.record_entry(subject, meter, amount, period_start, hold_amount, unrecorded_overage, kind, occurred_at, key, actor,
/// reason, attributes)`: records an entry of `amount`, positive or negative, and releases the `hold_amount` of a hold that
/// ended, of which `unrecorded_overage` lay above a limit that flags or bills. False when the key was used before.
fn record_entry(arguments: Arguments) -> Answer {
    let (subject, meter) = arguments::subject_and_meter(arguments)?;
    let key = MeterKey {
        subject: &subject,
        meter,
    };
    let amount = arguments.integer(2).unwrap_or(0);
    let period_start = arguments.integer(3).unwrap_or(i64::MIN);
    let hold_amount = arguments.integer(4).unwrap_or(0);
    let unrecorded_overage = arguments.integer(5).unwrap_or(0);
    let kind = KINDS
        .iter()
        .find(|kind| Some(**kind) == arguments.text(6))
        .copied()
        .unwrap_or("correction");
    let attributes = arguments::attributes(arguments, arguments.held(11))?;
    let now = clock::now_micros();
    let idempotency_key = arguments.text(8);
    if let Some(idempotency_key) = idempotency_key
        && idempotency::begin(key, idempotency_key, amount)?.is_some()
    {
        return Ok(pg_sys::Datum::from(false));
    }
    let otherwise = if period_start == i64::MIN {
        PeriodKind::Lifetime
    } else {
        PeriodKind::Month
    };
    // The current limit, also for an ended period: former limits are not stored.
    let policy = limit_cache::of(&subject, meter, now, otherwise);
    let period = Period {
        start: period_start,
        end: period_start,
    };
    let counter_key = CounterKey::new(query::table(c"ledger"), &subject, meter, period_start);
    let counter = engine::pin(&counter_key, key, period)?;
    counter.release_at_commit(hold_amount);
    engine::apply(counter, key, amount)?;
    let used = counter.used();
    let overage = policy.overage(used, amount.saturating_sub(hold_amount), unrecorded_overage);
    // An ended hold may have put other uses above the limit, and its end changes their overage even when its amount is 0.
    if amount != 0 || overage != 0 {
        entry::write(&LedgerEntry {
            period_start,
            kind,
            occurred_at: arguments.integer(7).unwrap_or(now),
            idempotency_key,
            actor: arguments.text(9),
            reason: arguments.text(10),
            attributes,
            ..engine::new_entry(&policy, key, amount, overage, now)
        });
    }
    if period_start == policy.period.start {
        record_threshold(counter, &policy, key, used, now);
    }
    if let Some(idempotency_key) = idempotency_key {
        let decision = QuotaDecision {
            allowed: true,
            used,
            overage: overage.max(0),
        };
        let verdict = idempotency::recorded(&policy, &decision);
        idempotency::record(key, idempotency_key, amount, verdict);
    }
    Ok(pg_sys::Datum::from(true))
}
