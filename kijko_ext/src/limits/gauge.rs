//! Gauges: a number of things that exist (members, projects, bytes) rather than of things that happened. The same
//! counters and the same ledger, whose rows are changes: a rise is a use, a fall counts from the commit on.

use super::charge::{self, Decision, Meter};
use super::consume;
use super::ledger::Entry;
use super::lock::{self, Class};
use super::period::Kind;
use super::policy;
use crate::clock;
use crate::pg::sql_function::{Answer, Arguments, Refusal, sql_function};

sql_function!(
    kijko_adjust_gauge,
    pg_finfo_kijko_adjust_gauge,
    adjust_gauge
);
sql_function!(kijko_set_gauge, pg_finfo_kijko_set_gauge, set_gauge);

fn adjust_gauge(arguments: Arguments) -> Answer {
    let (subject, name) = consume::meter(arguments)?;
    let delta = arguments
        .integer(2)
        .ok_or_else(|| Refusal::invalid("the change must not be null"))?;
    // Who sets the gauge needs to know what everybody else has done.
    lock::shared(Class::Gauge, &subject, &[name]);
    change(
        arguments,
        Meter {
            subject: &subject,
            name,
        },
        |_| Some(delta),
    )
}

fn set_gauge(arguments: Arguments) -> Answer {
    let (subject, name) = consume::meter(arguments)?;
    let value = arguments.integer(2).filter(|value| *value >= 0);
    let value = value.ok_or_else(|| Refusal::invalid("the value must be at least 0"))?;
    // From here on no other transaction changes it, or has changed it without being seen.
    lock::exclusive(Class::Gauge, &subject, &[name]);
    change(
        arguments,
        Meter {
            subject: &subject,
            name,
        },
        |used| value.checked_sub(used),
    )
}

fn change(arguments: Arguments, meter: Meter, delta: impl FnOnce(i64) -> Option<i64>) -> Answer {
    let now = clock::now_micros();
    let policy = policy::of(meter.subject, meter.name, now, Kind::Lifetime);
    if policy.kind != Kind::Lifetime {
        return Err(Refusal::invalid(
            "the limit of a gauge has the period lifetime",
        ));
    }
    let counter = charge::pin(&policy.key, meter, policy.period)?;
    let delta = delta(counter.used())
        .ok_or_else(|| Refusal::invalid("the change is more than can be counted"))?;
    let decision = if delta > 0 {
        charge::decide(counter, &policy, meter, delta, now)
    } else {
        charge::give_back(counter, meter, delta)?;
        let used = counter.used();
        Decision {
            allowed: true,
            used,
            overage: policy.overage(used, delta, 0),
        }
    };
    let verdict = consume::composite(
        arguments,
        charge::verdict(&policy, meter.name, delta.max(0), &decision, now),
    );
    if !decision.allowed {
        return Err(consume::refusal(verdict, delta));
    }
    if delta != 0 {
        let row = Entry {
            kind: "gauge",
            attributes: charge::attributes()?,
            ..charge::entry(&policy, meter, delta, decision.overage, now)
        };
        charge::book(counter, &policy, meter, &decision, now, row);
    }
    Ok(verdict)
}
