//! Gauges: the current number of objects (members, projects, bytes) rather than a number of events. They use the same
//! counters and ledger. Ledger entries are changes: an increase is a use, a decrease counts from the commit on.

use super::arguments;
use crate::clock;
use crate::pg::sql_function::{Answer, Arguments, Refusal, sql_function};
use crate::quota::engine::{self, QuotaDecision};
use crate::quota::ledger::entry::LedgerEntry;
use crate::quota::lock::{self, Class};
use crate::quota::meter_key::MeterKey;
use crate::quota::policy::limit_cache;
use crate::quota::policy::period::PeriodKind;

sql_function!(
    kijko_adjust_gauge,
    pg_finfo_kijko_adjust_gauge,
    adjust_gauge
);
sql_function!(kijko_set_gauge, pg_finfo_kijko_set_gauge, set_gauge);

fn adjust_gauge(arguments: Arguments) -> Answer {
    let (subject, meter) = arguments::subject_and_meter(arguments)?;
    let delta = arguments
        .integer(2)
        .ok_or_else(|| Refusal::invalid("the change must not be null"))?;
    // Excludes set_gauge, which must see every other change.
    lock::shared(Class::Gauge, &subject, &[meter]);
    let key = MeterKey {
        subject: &subject,
        meter,
    };
    change(arguments, key, |_| Some(delta))
}

fn set_gauge(arguments: Arguments) -> Answer {
    let (subject, meter) = arguments::subject_and_meter(arguments)?;
    let value = arguments.integer(2).filter(|value| *value >= 0);
    let value = value.ok_or_else(|| Refusal::invalid("the value must be at least 0"))?;
    // Waits for running changes and excludes new ones, so the difference to the current value is exact.
    lock::exclusive(Class::Gauge, &subject, &[meter]);
    let key = MeterKey {
        subject: &subject,
        meter,
    };
    change(arguments, key, |used| value.checked_sub(used))
}

fn change(arguments: Arguments, key: MeterKey, delta: impl FnOnce(i64) -> Option<i64>) -> Answer {
    let now = clock::now_micros();
    let policy = limit_cache::of(key.subject, key.meter, now, PeriodKind::Lifetime);
    if policy.kind != PeriodKind::Lifetime {
        return Err(Refusal::invalid(
            "the limit of a gauge has the period lifetime",
        ));
    }
    let counter = engine::pin(&policy.key, key, policy.period)?;
    let delta = delta(counter.used())
        .ok_or_else(|| Refusal::invalid("the change is outside the range of bigint"))?;
    let decision = if delta > 0 {
        engine::decide(counter, &policy, key, delta, now)
    } else {
        engine::release(counter, key, delta)?;
        let used = counter.used();
        QuotaDecision {
            allowed: true,
            used,
            overage: policy.overage(used, delta, 0),
        }
    };
    let verdict = arguments::composite(
        arguments,
        engine::verdict(&policy, key.meter, delta.max(0), &decision, now),
    );
    if !decision.allowed {
        return Err(arguments::refusal(verdict, delta));
    }
    if delta != 0 {
        let entry = LedgerEntry {
            kind: "gauge",
            attributes: arguments::attributes(arguments, None)?,
            ..engine::new_entry(&policy, key, delta, decision.overage, now)
        };
        engine::record(counter, &policy, &decision, now, entry);
    }
    Ok(verdict)
}
