//! `kijko.reserve` and `kijko.try_reserve_many`: reserve amounts as holds.

use super::arguments;
use crate::clock;
use crate::pg::datum;
use crate::pg::sql_function::{Answer, Arguments, Refusal, sql_function};
use crate::quota::counter::counter_pins::{Counter, Mark};
use crate::quota::hold::store::{self, NewHold, NewHolds};
use crate::quota::ledger::entry;
use crate::quota::lock::Class;
use crate::quota::meter_key::{MeterKey, is_meter};
use crate::quota::policy::limit_cache;
use crate::quota::policy::period::PeriodKind;
use crate::quota::{engine, idempotency};

sql_function!(kijko_reserve, pg_finfo_kijko_reserve, reserve);
sql_function!(
    kijko_try_reserve_many,
    pg_finfo_kijko_try_reserve_many,
    try_reserve_many
);

/// `kijko.reserve_until(subject, meter, amount, expires_at, key)`: the id of the hold.
fn reserve(arguments: Arguments) -> Answer {
    let (subject, meter) = arguments::subject_and_meter(arguments)?;
    let key = MeterKey {
        subject: &subject,
        meter,
    };
    let amount = arguments::amount(arguments, 2)?;
    let now = clock::now_micros();
    let expires_at = arguments
        .integer(3)
        .filter(|expires_at| *expires_at > now)
        .ok_or_else(|| Refusal::invalid("a hold must expire in the future"))?;
    let idempotency_key = arguments.text(4);
    if let Some(idempotency_key) = idempotency_key {
        idempotency::lock(Class::Hold, key, idempotency_key)?;
    }
    let policy = limit_cache::of(&subject, meter, now, PeriodKind::Month);
    // Before any hold changes: a load afterwards would see changes that may be rolled back.
    let counter = engine::pin(&policy.key, key, policy.period)?;
    if let Some(idempotency_key) = idempotency_key
        && let Some(id) = existing(
            key,
            idempotency_key,
            amount,
            now,
            expires_at,
            policy.period.start,
        )?
    {
        return Ok(datum::uuid_datum(&id));
    }
    let decision = engine::decide(counter, &policy, key, amount, now);
    if !decision.allowed {
        let verdict = engine::verdict(&policy, meter, amount, &decision, now);
        return Err(Refusal::by(
            "kijko.refuse_hold(pg_catalog.text,pg_catalog.int8,pg_catalog.int8,pg_catalog.timestamptz,pg_catalog.int4,pg_catalog.int8)",
            vec![
                meter.into(),
                verdict.used.into(),
                verdict.limit.into(),
                verdict.reset_at.into(),
                verdict.retry_after.into(),
                amount.into(),
            ],
        ));
    }
    let id = entry::new_id(now);
    store::insert(&NewHold {
        id: &id,
        key,
        period_start: policy.period.start,
        amount,
        overage: decision.overage,
        idempotency_key,
        created_at: now,
        expires_at,
    });
    counter.slot().expect_expiry(expires_at);
    Ok(datum::uuid_datum(&id))
}

/// The hold that an earlier call made under the key, if it is settled or open. An expired or released hold reserves
/// nothing, so the caller, who retries, needs a new one.
fn existing(
    key: MeterKey,
    idempotency_key: &str,
    amount: i64,
    now: i64,
    expires_at: i64,
    period_start: i64,
) -> Result<Option<[u8; 16]>, Refusal> {
    let Some(found) = store::find(key, idempotency_key, now) else {
        return Ok(None);
    };
    if found.amount != amount {
        let details = format!(
            "this key holds {} {}, not {amount}",
            found.amount, key.meter
        );
        return Err(Refusal::new("idempotency_conflict", &details, None));
    }
    let is_free = !found.is_current && store::extend(&found.id, expires_at, period_start);
    Ok((!is_free).then_some(found.id))
}

/// What is reserved for one of several holds.
struct Reserved {
    counter: Counter,
    /// The counter before it.
    mark: Mark,
    amount: i64,
}

/// `kijko.try_reserve_many(subjects, meters, amounts, expires_at)`: the ids of the holds; null, and nothing reserved, when one of
/// them does not fit.
fn try_reserve_many(arguments: Arguments) -> Answer {
    let wants = wants(arguments)?;
    let now = clock::now_micros();
    let expires_at = arguments
        .integer(3)
        .filter(|expires_at| *expires_at > now)
        .ok_or_else(|| Refusal::invalid("a hold must expire in the future"))?;
    let mut reserved: Vec<Reserved> = Vec::with_capacity(wants.len());
    let (mut period_starts, mut overages) = (Vec::new(), Vec::new());
    for (subject, meter, amount) in &wants {
        let (key, amount) = (MeterKey { subject, meter }, *amount);
        let policy = limit_cache::of(subject, meter, now, PeriodKind::Month);
        let counter = engine::pin(&policy.key, key, policy.period)?;
        let mark = counter.mark();
        let decision = engine::decide(counter, &policy, key, amount, now);
        if !decision.allowed {
            for former in reserved.iter().rev() {
                former.counter.restore(former.mark, former.amount);
            }
            return Ok(arguments.null());
        }
        reserved.push(Reserved {
            counter,
            mark,
            amount,
        });
        period_starts.push(policy.period.start);
        overages.push(decision.overage);
    }
    let ids: Vec<_> = wants.iter().map(|_| entry::new_id(now)).collect();
    if let (Some(subjects), Some(meters), Some(amounts)) =
        (arguments.held(0), arguments.held(1), arguments.held(2))
    {
        store::insert_many(&NewHolds {
            ids: &ids,
            subjects,
            meters,
            amounts,
            period_starts: &period_starts,
            overages: &overages,
            created_at: now,
            expires_at,
        });
    }
    for reserved in &reserved {
        reserved.counter.slot().expect_expiry(expires_at);
    }
    Ok(datum::uuids_datum(&ids))
}

/// Subject, meter and amount of each hold.
fn wants(arguments: Arguments) -> Result<Vec<([u8; 16], String, i64)>, Refusal> {
    engine::check_transaction();
    let subjects = arguments.uuids(0).unwrap_or_default();
    let meters = arguments.texts(1).unwrap_or_default();
    let amounts = arguments.integers(2).unwrap_or_default();
    let as_many = subjects.len() == meters.len() && subjects.len() == amounts.len();
    let all = subjects.into_iter().zip(meters).zip(amounts);
    let wants: Option<Vec<_>> = all
        .map(|((subject, meter), amount)| {
            let meter = meter.filter(|meter| is_meter(meter))?;
            Some((subject?, meter, amount.filter(|amount| *amount >= 1)?))
        })
        .collect();
    wants.filter(|_| as_many).ok_or_else(|| {
        Refusal::invalid(
            "each hold needs a subject, a meter in lower case and an amount of at least 1",
        )
    })
}
