//! Writes the last use of each key to kijko.api_key_uses, for the background worker: a key at most about once a minute.

use pgrx::prelude::*;

use super::last_use::{self, Unwritten};
use crate::clock;
use crate::pg::query::{self, Statement};
use crate::pg::setting;
use crate::pg::value::Value;
use crate::worker::{attempt, extension_lock};

/// How long a key that was written is not written again, in microseconds.
const INTERVAL: i64 = 60 * clock::SECOND;
/// A lock on the table must not keep the worker from its other work.
const LOCK_TIMEOUT: &str = "100ms";

thread_local! {
    // A key that another transaction has locked is written in a later round.
    static WRITE: Statement = const { Statement::new(
        "insert into kijko.api_key_uses (api_key_id, last_used_at) \
         select k.id, $2 from kijko.api_keys as k where k.id operator(pg_catalog.=) $1 for key share skip locked \
         on conflict (api_key_id) do update set last_used_at = excluded.last_used_at returning 1",
        &[pg_sys::UUIDOID, pg_sys::TIMESTAMPTZOID],
    ) };
    static EXISTS: Statement = const { Statement::new(
        "select from kijko.api_keys as k where k.id operator(pg_catalog.=) $1", &[pg_sys::UUIDOID],
    ) };
}

/// Writes the uses that are due; all of them before the worker stops. False when that failed: they wait for a later round.
pub fn round(all: bool) -> bool {
    let due = due(all);
    if due.is_empty() {
        return true;
    }
    match attempt(|| write(&due)) {
        Ok(done) => {
            mark_written(&done, &due);
            true
        }
        Err(error) => {
            last_use::look_again();
            log!("kijko last uses of API keys: {error}");
            false
        }
    }
}

/// The uses that are to be written now; all of them before the worker stops.
fn due(all: bool) -> Vec<Unwritten> {
    let before = match all {
        true => i64::MAX,
        false => clock::real_micros() - INTERVAL,
    };
    let (due, others) = last_use::unwritten(before);
    if others {
        last_use::look_again();
    }
    due
}

/// Writes uses in the worker's transaction. Returns those that need no further write once it has committed.
fn write(due: &[Unwritten]) -> Vec<Unwritten> {
    if !extension_lock::is_installed() || query::find_table(c"api_key_uses").is_none() {
        return due.to_vec(); // without the extension, or an older one
    }
    setting::set_local(c"lock_timeout", LOCK_TIMEOUT);
    due.iter().copied().filter(is_done).collect()
}

fn is_done(used: &Unwritten) -> bool {
    let key = Value::from(&used.key);
    let values = [key, used.used_at.into()];
    let is_written = WRITE.with(|write| write.write(&values, |rows| !rows.is_empty()));
    is_written || EXISTS.with(|exists| exists.read(&[key], |rows| rows.is_empty()))
}

/// Their transaction has committed.
fn mark_written(done: &[Unwritten], due: &[Unwritten]) {
    let now = clock::real_micros();
    for written in done {
        last_use::mark_written(written, now);
    }
    if done.len() < due.len() {
        last_use::look_again();
    }
}
