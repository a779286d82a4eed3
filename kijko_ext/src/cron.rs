//! Cron expressions: a strict grammar (grammar.rs), the schedule on the wall clock and its way through time zones
//! (schedule.rs, latest.rs), and here the SQL edge. The refusals are raised by plpgsql (cron.sql); the functions here answer with
//! a reason or with null.

use pgrx::prelude::*;

mod grammar;
mod latest;
mod schedule;

use crate::clock;
use schedule::Schedule;

/// What is wrong: the error's code and the reason. Null when an expression and a zone can be used together.
#[pg_extern(stable, parallel_safe)]
fn cron_problem(
    expr: Option<&str>,
    tz: default!(Option<&str>, "'UTC'"),
) -> TableIterator<'static, (name!(code, String), name!(reason, String))> {
    let problem = match (expr, tz) {
        (None, _) => Some(("invalid_cron", "the expression is null".to_owned())),
        (_, None) => Some(("invalid_timezone", "the time zone is null".to_owned())),
        (Some(expr), Some(tz)) => Schedule::new(expr, tz)
            .err()
            .map(|error| (error.code(), error.to_string())),
    };
    TableIterator::new(
        problem
            .into_iter()
            .map(|(code, reason)| (code.to_owned(), reason)),
    )
}

/// The first time strictly after `after`, or null: nothing is due any more, or there is a problem.
#[pg_extern(stable, parallel_safe)]
fn cron_next_unchecked(
    expr: &str,
    tz: &str,
    after: TimestampWithTimeZone,
) -> Option<TimestampWithTimeZone> {
    let schedule = Schedule::new(expr, tz).ok()?;
    schedule.next(timestamp(after)?).and_then(postgres_time)
}

/// The last time not after `until`, or null: it lies before the calendar, or there is a problem.
#[pg_extern(stable, parallel_safe)]
fn cron_latest_unchecked(
    expr: &str,
    tz: &str,
    until: TimestampWithTimeZone,
) -> Option<TimestampWithTimeZone> {
    let schedule = Schedule::new(expr, tz).ok()?;
    schedule.latest(timestamp(until)?).and_then(postgres_time)
}

/// The first `n` times strictly after `after`.
#[pg_extern(stable, parallel_safe)]
fn cron_upcoming_unchecked(
    expr: &str,
    tz: &str,
    after: TimestampWithTimeZone,
    n: i32,
) -> SetOfIterator<'static, TimestampWithTimeZone> {
    let schedule = Schedule::new(expr, tz).ok();
    let mut last = timestamp(after);
    SetOfIterator::new(
        std::iter::from_fn(move || {
            last = schedule.as_ref()?.next(last?);
            last.and_then(postgres_time)
        })
        .take(n.max(0) as usize),
    )
}

fn timestamp(time: TimestampWithTimeZone) -> Option<jiff::Timestamp> {
    clock::instant(time.into())
}

fn postgres_time(time: jiff::Timestamp) -> Option<TimestampWithTimeZone> {
    TimestampWithTimeZone::try_from(clock::of_instant(time)).ok()
}
