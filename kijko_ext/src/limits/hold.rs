//! Holds: a budget kept for work whose price is known only afterwards. `kijko.reserve` decides and writes the row here;
//! settling, releasing and expiring are SQL (holds.sql) over `kijko.book`. A hold is a row, so it outlives its
//! transaction and a crash; what it holds counts as used until it is settled, released or expired.

use pgrx::prelude::*;

use super::charge::{self, Meter};
use super::lock::Class;
use super::period::Kind;
use super::{consume, idempotency, ledger, policy};
use crate::pg::datum;
use crate::pg::query::Statement;
use crate::pg::sql_function::{Answer, Arguments, Refusal, sql_function};
use crate::{clock, errors};

sql_function!(kijko_reserve, pg_finfo_kijko_reserve, reserve);

thread_local! {
    static EXPIRE: Statement = const { Statement::new(
        "with expired as ( \
             update kijko.holds set state = 'expired', ended_at = $4 \
             where id operator(pg_catalog.=) any (array( \
                 select o.id from kijko.holds as o \
                 where o.subject operator(pg_catalog.=) $1 and o.meter operator(pg_catalog.=) $2 \
                     and o.period_start operator(pg_catalog.=) $3 \
                     and o.state operator(pg_catalog.=) 'open' and o.expires_at operator(pg_catalog.<=) $4 \
                 for update skip locked)) \
             returning amount) \
         select pg_catalog.sum(amount)::pg_catalog.int8 from expired",
        &[pg_sys::UUIDOID, pg_sys::TEXTOID, pg_sys::TIMESTAMPTZOID, pg_sys::TIMESTAMPTZOID],
    ) };
    static KNOWN: Statement = const { Statement::new(
        "select o.id::pg_catalog.text, o.amount, \
             case when o.state operator(pg_catalog.=) 'settled' \
                 or o.state operator(pg_catalog.=) 'open' and o.expires_at operator(pg_catalog.>) $4 then 1::pg_catalog.int8 end \
         from kijko.holds as o \
         where o.subject operator(pg_catalog.=) $1 and o.meter operator(pg_catalog.=) $2 \
             and o.idempotency_key operator(pg_catalog.=) $3",
        &[pg_sys::UUIDOID, pg_sys::TEXTOID, pg_sys::TEXTOID, pg_sys::TIMESTAMPTZOID],
    ) };
    // What has ended without work gives its key up, and so does a hold of a former period, whose limit is another one; what
    // nobody has ended yet goes on; what was settled meanwhile stays.
    static TAKE_UP: Statement = const { Statement::new(
        "update kijko.holds as o set \
             expires_at = case when o.state operator(pg_catalog.=) 'open' and o.period_start operator(pg_catalog.=) $3 \
                 then $2 else o.expires_at end, \
             idempotency_key = case when o.state operator(pg_catalog.=) 'settled' \
                 or o.state operator(pg_catalog.=) 'open' and o.period_start operator(pg_catalog.=) $3 then o.idempotency_key end \
         where o.id operator(pg_catalog.=) $1 \
         returning case when o.idempotency_key is null then 1::pg_catalog.int8 end",
        &[pg_sys::UUIDOID, pg_sys::TIMESTAMPTZOID, pg_sys::TIMESTAMPTZOID],
    ) };
    static INSERT: Statement = const { Statement::new(
        "insert into kijko.holds (id, subject, meter, period_start, amount, idempotency_key, created_at, expires_at, overage, state) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'open')",
        &[
            pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::TEXTOID, pg_sys::TIMESTAMPTZOID, pg_sys::INT8OID, pg_sys::TEXTOID,
            pg_sys::TIMESTAMPTZOID, pg_sys::TIMESTAMPTZOID, pg_sys::INT8OID,
        ],
    ) };
}

/// XactCallbacks the counter's holds whose time is over, and says how many units they held. The counter must be pinned: a load
/// after this would not find them any more, and they would be given back twice. Holds that somebody else is ending
/// are his.
pub fn expire(meter: Meter, period_start: i64, now: i64) -> i64 {
    let values = [
        Some(datum::uuid_datum(meter.subject)),
        Some(datum::text_datum(meter.name)),
        Some(pg_sys::Datum::from(period_start)),
        Some(pg_sys::Datum::from(now)),
    ];
    EXPIRE.with(|statement| statement.write(&values, |rows| rows[0].integer(1).unwrap_or(0)))
}

/// `kijko.reserve_until(subject, meter, amount, expires_at, key)`: the id of the hold.
fn reserve(arguments: Arguments) -> Answer {
    let (subject, name) = consume::meter(arguments)?;
    let amount = consume::amount(arguments, 2)?;
    let now = clock::now_micros();
    let expires_at = arguments
        .integer(3)
        .filter(|expires_at| *expires_at > now)
        .ok_or_else(|| Refusal::invalid("a hold must last for some time"))?;
    let meter = Meter {
        subject: &subject,
        name,
    };
    let key = arguments.text(4);
    if let Some(key) = key {
        idempotency::lock(Class::Hold, meter.subject, name, key)?;
    }
    let policy = policy::of(&subject, name, now, Kind::Month);
    // Before any hold changes: a load afterwards would see what may be rolled back.
    let counter = charge::pin(&policy.key, meter, policy.period)?;
    if let Some(key) = key
        && let Some(id) = known(meter, key, amount, now, expires_at, policy.period.start)?
    {
        return Ok(id);
    }
    let decision = charge::decide(counter, &policy, meter, amount, now);
    if !decision.allowed {
        let verdict = charge::verdict(&policy, name, amount, &decision, now);
        return Err(Refusal::by(
            "kijko.refuse_hold(pg_catalog.text,pg_catalog.int8,pg_catalog.int8,pg_catalog.timestamptz,pg_catalog.int4,pg_catalog.int8)",
            vec![
                Some(datum::text_datum(name)),
                verdict.used.map(pg_sys::Datum::from),
                verdict.limit.map(pg_sys::Datum::from),
                verdict.reset_at.map(pg_sys::Datum::from),
                verdict.retry_after.map(pg_sys::Datum::from),
                Some(pg_sys::Datum::from(amount)),
            ],
        ));
    }
    let id = ledger::new_id(now);
    let values = [
        Some(datum::uuid_datum(&id)),
        Some(datum::uuid_datum(&subject)),
        Some(datum::text_datum(name)),
        Some(pg_sys::Datum::from(policy.period.start)),
        Some(pg_sys::Datum::from(amount)),
        key.map(datum::text_datum),
        Some(pg_sys::Datum::from(now)),
        Some(pg_sys::Datum::from(expires_at)),
        Some(pg_sys::Datum::from(decision.overage)),
    ];
    INSERT.with(|statement| statement.write(&values, |_| ()));
    counter.slot().expect_expiry(expires_at);
    Ok(datum::copied_uuid(&id))
}

/// The hold that was made under the key before, if it was settled or still holds. One that expired or was released holds
/// nothing: the caller, who tries again, needs another one.
fn known(
    meter: Meter,
    key: &str,
    amount: i64,
    now: i64,
    expires_at: i64,
    period_start: i64,
) -> Result<Option<pg_sys::Datum>, Refusal> {
    let values = [
        Some(datum::uuid_datum(meter.subject)),
        Some(datum::text_datum(meter.name)),
        Some(datum::text_datum(key)),
        Some(pg_sys::Datum::from(now)),
    ];
    let found = KNOWN.with(|statement| {
        statement.read(&values, |rows| {
            rows.first().map(|row| {
                let id = row.text(1).unwrap_or_default();
                (id, row.integer(2), row.integer(3).is_some())
            })
        })
    });
    let Some((id, held, stands)) = found else {
        return Ok(None);
    };
    if held != Some(amount) {
        let details = format!(
            "this key holds {} {}, not {amount}",
            held.unwrap_or(0),
            meter.name
        );
        return Err(Refusal::new("idempotency_conflict", &details, None));
    }
    let id = datum::uuid_from_text(&id);
    let gone = !stands && take_up(id, expires_at, period_start);
    Ok((!gone).then_some(id))
}

/// Gives a hold whose time is over, and that nobody has ended, the new time. True when its key is free now.
fn take_up(id: pg_sys::Datum, expires_at: i64, period_start: i64) -> bool {
    let values = [
        Some(id),
        Some(pg_sys::Datum::from(expires_at)),
        Some(pg_sys::Datum::from(period_start)),
    ];
    let free = TAKE_UP.with(|statement| {
        statement.write(&values, |rows| {
            rows.first().map(|row| row.integer(1).is_some())
        })
    });
    free.unwrap_or_else(|| {
        errors::raise(
            PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
            "the hold of this key was made after this transaction began, and has ended",
            None,
            Some("Try the transaction again."),
        )
    })
}
