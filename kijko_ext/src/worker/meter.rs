//! The worker of a database that meters: moves counted requests to the ledger, and writes the last uses of API keys and how often
//! flags were evaluated.

use std::time::{Duration, Instant};

use pgrx::prelude::*;

use super::launcher::Kind;
use super::process;
use super::tenure::{End, LEAVE_ROUND, Tenure};
use crate::api_key::last_use_writer;
use crate::flag;
use crate::guc;
use crate::request_counter::flush;

/// How long to wait after a failure.
const FAILURE_PAUSE: Duration = Duration::from_millis(1_000);
const MAX_FINAL_FLUSHES: u32 = 100;
const FINAL_FLUSH_PAUSE: Duration = Duration::from_millis(20);
/// How often last uses and evaluations are looked for.
const FACTS_ROUND: Duration = Duration::from_secs(1);
/// After a failure, which may have taken the whole lock timeout.
const FACTS_FAILURE_PAUSE: Duration = Duration::from_secs(10);

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kijko_worker(database: pg_sys::Datum) {
    let end = match Tenure::begin(Kind::Meter, database) {
        Ok(mut tenure) => serve(&mut tenure),
        Err(end) => end,
    };
    match end {
        End::Stopped => final_flushes(),
        End::PostmasterDied => {
            flush::flush();
        }
        // Whoever drops the database needs no counts; otherwise the next worker moves them.
        End::Leaves => {}
    }
    // SAFETY: ends the process; the launcher decides whether there is another one.
    unsafe { pg_sys::proc_exit(1) };
}

fn serve(tenure: &mut Tenure) -> End {
    let mut next_facts = Instant::now();
    let mut until_flush = guc::request_counter_flush_interval();
    loop {
        if let Some(end) = pause(until_flush, tenure) {
            return end;
        }
        until_flush = match flush::flush() {
            true => guc::request_counter_flush_interval(),
            false => FAILURE_PAUSE,
        };
        if Instant::now() >= next_facts {
            let written = [last_use_writer::round(false), flag::flush::round()];
            let until_next = match written {
                [true, true] => FACTS_ROUND,
                _ => FACTS_FAILURE_PAUSE,
            };
            next_facts = Instant::now() + until_next;
        }
    }
}

/// Waits, and asks now and then whether the worker has to leave.
fn pause(pause: Duration, tenure: &mut Tenure) -> Option<End> {
    let until = Instant::now() + pause;
    loop {
        let rest = until.saturating_duration_since(Instant::now());
        let alive = process::wait(rest.min(LEAVE_ROUND));
        let end = tenure.end(alive);
        if end.is_some() || Instant::now() >= until {
            return end;
        }
    }
}

/// Other backends stop at the same time. Their last counts are moved as well.
fn final_flushes() {
    for _ in 0..MAX_FINAL_FLUSHES {
        flush::flush();
        // SAFETY: reads shared memory.
        let connections = unsafe { pg_sys::CountDBConnections(pg_sys::MyDatabaseId) };
        if connections == 0 || !process::wait(FINAL_FLUSH_PAUSE) {
            break;
        }
    }
    flush::flush();
    last_use_writer::round(true);
    flag::flush::round();
}
