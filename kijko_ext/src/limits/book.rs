//! What is told rather than asked: settled holds, corrections, late events. They are booked whatever the limit says,
//! for it has happened; `kijko.forget_usage` is told that the tables were changed by other means.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::charge::{self, Decision, Meter};
use super::consume;
use super::ledger::{self, Entry};
use super::period::Kind;
use super::table::Key;
use super::{idempotency, policy, threshold, transaction};
use crate::clock;
use crate::pg::sql_function::{Answer, Arguments, sql_function};
use crate::pg::{query, trigger};

sql_function!(kijko_book, pg_finfo_kijko_book, book);
sql_function!(
    kijko_forget_usage,
    pg_finfo_kijko_forget_usage,
    forget_usage
);
sql_function!(
    kijko_limits_changed,
    pg_finfo_kijko_limits_changed,
    limits_changed
);

/// The kinds of row that SQL books.
const KINDS: [&str; 4] = ["correction", "late", "settle", "import"];

/// `kijko.book(subject, meter, amount, period_start, freed, unbooked, kind, occurred_at, key, actor, reason, attributes)`:
/// writes a row of `amount`, positive or negative, and gives back `freed` units of a hold that ended, of which `unbooked`
/// lay above a limit that flags or bills. False when the key was used before.
fn book(arguments: Arguments) -> Answer {
    let (subject, name) = consume::meter(arguments)?;
    let meter = Meter {
        subject: &subject,
        name,
    };
    let amount = arguments.integer(2).unwrap_or(0);
    let period_start = arguments.integer(3).unwrap_or(i64::MIN);
    let freed = arguments.integer(4).unwrap_or(0);
    let unbooked = arguments.integer(5).unwrap_or(0);
    let kind = KINDS
        .iter()
        .find(|kind| Some(**kind) == arguments.text(6))
        .copied()
        .unwrap_or("correction");
    let attributes = match arguments.datum(11) {
        None => charge::attributes()?,
        Some(own) => Some(charge::joined_attributes(own)?),
    };
    let now = clock::now_micros();
    let key = arguments.text(8);
    if let Some(key) = key
        && idempotency::begin(&subject, name, key, amount)?.is_some()
    {
        return Ok(pg_sys::Datum::from(false));
    }
    let present = policy::of(
        &subject,
        name,
        now,
        if period_start == i64::MIN {
            Kind::Lifetime
        } else {
            Kind::Month
        },
    );
    let period = super::period::Period {
        start: period_start,
        end: period_start,
    };
    let counter = charge::pin(
        &Key::new(query::table(c"ledger"), &subject, name, period_start),
        meter,
        period,
    )?;
    counter.credit_at_commit(freed);
    charge::book_amount(counter, meter, amount)?;
    let used = counter.used();
    // The limit of now, also for a period that is over: what it was then nobody has kept.
    let overage = present.overage(used, amount.saturating_sub(freed), unbooked);
    // A hold that ends may have pushed other uses above the limit, and take them below it again.
    if amount != 0 || overage != 0 {
        ledger::write(&Entry {
            period_start,
            kind,
            occurred_at: arguments.integer(7).unwrap_or(now),
            idempotency_key: key,
            actor: arguments.text(9),
            reason: arguments.text(10),
            attributes,
            ..charge::entry(&present, meter, amount, overage, now)
        });
    }
    let decision = Decision {
        allowed: true,
        used,
        overage: overage.max(0),
    };
    if period_start == present.period.start {
        threshold::cross(counter, &present, &subject, name, decision.used, now);
    }
    if let Some(key) = key {
        idempotency::record(
            &subject,
            name,
            key,
            amount,
            consume::recorded(&present, &decision),
        );
    }
    Ok(pg_sys::Datum::from(true))
}

/// `kijko.forget_usage(subject)`; null is everybody. At commit, since only then others see what this transaction has
/// done to the tables.
fn forget_usage(arguments: Arguments) -> Answer {
    let ledger = query::table(c"ledger");
    transaction::forget_at_commit(
        arguments
            .uuid(0)
            .map(|subject| Key::subject(ledger, &subject)),
    );
    // Limits and calendars may have been loaded with triggers disabled, too. A standby cannot tell anybody, and is told.
    // SAFETY: reads a variable; registers a message for the commit.
    unsafe {
        if !pg_sys::RecoveryInProgress() {
            pg_sys::CacheInvalidateRelcacheByRelid(query::table(c"limit_changes"));
        }
    }
    Ok(arguments.null())
}

/// The trigger on tables that backends cache: everybody forgets when this transaction commits, this one at once.
fn limits_changed(arguments: Arguments) -> Answer {
    // SAFETY: called as a trigger, whose context is its data.
    unsafe {
        let data = trigger::data(arguments, "kijko.limits_changed");
        let trigger = (*data).tg_trigger;
        match (*trigger).tgnargs {
            0 => pg_sys::CacheInvalidateRelcache((*data).tg_relation),
            _ => pg_sys::CacheInvalidateRelcacheByRelid(query::table(CStr::from_ptr(
                *(*trigger).tgargs,
            ))),
        }
    }
    // A statement's trigger returns nothing, and may not say that it is null.
    Ok(pg_sys::Datum::null())
}
