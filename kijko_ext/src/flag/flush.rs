//! Moves counted evaluations to `kijko.flag_evaluations`, in one transaction a round, and in none while nothing was evaluated. For
//! the worker of a database. A crash loses what was counted since the last round.

use std::cell::Cell;
use std::time::{Duration, Instant};

use pgrx::prelude::*;

use super::counts::{self, Count};
use crate::pg::query::{self, Statement};
use crate::pg::setting;
use crate::pg::value::Value;
use crate::worker::{attempt, extension_lock};

/// A lock on the table must not keep the worker from its other work.
const LOCK_TIMEOUT: &str = "100ms";
/// How often old rows are looked for.
const PURGE_ROUND: Duration = Duration::from_secs(3_600);

thread_local! {
    static WRITE: Statement = const { Statement::new(
        "insert into kijko.flag_evaluations as e (environment, flag, variant, hour, yes, no) values ($1, $2, $3, $4, $5, $6) \
         on conflict on constraint flag_evaluations_pkey do update \
         set yes = e.yes operator(pg_catalog.+) excluded.yes, no = e.no operator(pg_catalog.+) excluded.no",
        &[
            pg_sys::TEXTOID, pg_sys::TEXTOID, pg_sys::TEXTOID, pg_sys::TIMESTAMPTZOID, pg_sys::INT8OID, pg_sys::INT8OID,
        ],
    ) };
    // Of those that nobody has taken.
    static PURGE: Statement = const { Statement::new(
        "delete from kijko.flag_evaluations as e \
         where e.hour operator(pg_catalog.<) (kijko.now() operator(pg_catalog.-) pg_catalog.make_interval(days => 90))",
        &[],
    ) };
    static PURGED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// False when that failed: the counts wait for a later round.
pub fn round() -> bool {
    let counts = counts::pending();
    if counts.is_empty() {
        return true;
    }
    match attempt(|| write(&counts)) {
        Ok(()) => {
            counts::mark_written(&counts);
            true
        }
        Err(error) => {
            counts::look_again();
            log!("kijko evaluations of flags: {error}");
            false
        }
    }
}

fn write(counts: &[Count]) {
    // Without the extension, or with an older one, what was counted is worth nothing.
    if !extension_lock::is_installed() || query::find_table(c"flag_evaluations").is_none() {
        return;
    }
    setting::set_local(c"lock_timeout", LOCK_TIMEOUT);
    for count in counts {
        let values = [
            Value::from(count.environment.as_str()),
            count.flag.as_str().into(),
            count.variant.as_str().into(),
            count.hour.into(),
            (count.yes as i64).into(),
            (count.no as i64).into(),
        ];
        WRITE.with(|write| write.write(&values, |_| ()));
    }
    let is_due = PURGED.get().is_none_or(|at| at.elapsed() > PURGE_ROUND);
    if is_due {
        PURGE.with(|purge| purge.write(&[], |_| ()));
        PURGED.set(Some(Instant::now()));
    }
}
