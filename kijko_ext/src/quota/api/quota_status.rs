//! `kijko.quota_status`: the state of a meter, read from its counter. Uses and writes nothing.

use super::arguments;
use crate::clock;
use crate::pg::sql_function::{Answer, Arguments, Refusal, sql_function};
use crate::quota::engine::{self, QuotaDecision};
use crate::quota::meter_key::{MeterKey, is_meter};
use crate::quota::policy::limit_cache;
use crate::quota::policy::period::PeriodKind;

sql_function!(
    kijko_quota_status,
    pg_finfo_kijko_quota_status,
    quota_status
);

fn quota_status(arguments: Arguments) -> Answer {
    let (subject, meter) = match (arguments.uuid(0), arguments.text(1)) {
        (Some(subject), Some(meter)) if is_meter(meter) => (subject, meter),
        _ => {
            return Err(Refusal::invalid(
                "a quota status needs a subject, and a meter in lower case",
            ));
        }
    };
    let key = MeterKey {
        subject: &subject,
        meter,
    };
    let now = clock::now_micros();
    let policy = limit_cache::of(&subject, meter, now, PeriodKind::Month);
    let used = engine::used(&policy, key)?;
    let decision = QuotaDecision {
        allowed: policy.limit.is_none_or(|limit| used < limit),
        used,
        overage: 0,
    };
    let verdict = engine::verdict(&policy, meter, 1, &decision, now);
    Ok(arguments::composite(arguments, verdict))
}
