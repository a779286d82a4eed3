//! The worker of a database: moves counted requests to the ledger, and writes the last uses of API keys.
//!
//! It leaves when somebody needs the database without connections (database_lock.rs), and the launcher starts it again
//! afterwards. There is one for each database, also while the launcher is started again: a lock of the session says so.

use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorker, SignalWakeFlags};
use pgrx::prelude::*;

use super::{database_lock, process};
use crate::api_key::last_use_writer;
use crate::guc;
use crate::request_counter::flush;

/// How long to wait after a failure.
const FAILURE_PAUSE: Duration = Duration::from_millis(1_000);
/// How often it asks whether it has to leave. DROP DATABASE waits ten times as long.
const LEAVE_ROUND: Duration = Duration::from_millis(500);
const MAX_FINAL_FLUSHES: u32 = 100;
const FINAL_FLUSH_PAUSE: Duration = Duration::from_millis(20);
/// How often last uses are looked for.
const LAST_USE_ROUND: Duration = Duration::from_secs(1);
/// After a failure, which may have taken the whole lock timeout.
const LAST_USE_FAILURE_PAUSE: Duration = Duration::from_secs(10);
/// The class of the advisory lock, as quota/lock.rs has classes that SQL cannot use.
const LOCK_CLASS: u16 = 0x4b4d;

/// Why the worker ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The server stops, or the database is not listed any more.
    Stopped,
    PostmasterDied,
    /// Somebody needs the database.
    Leaves,
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kijko_worker(database: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    let database = pg_sys::Oid::from(database.value() as u32);
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(database), None);
    let end = become_the_only_one().unwrap_or_else(serve);
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

/// Waits for a former worker of this database to end.
fn become_the_only_one() -> Option<End> {
    loop {
        if process::transaction(lock) {
            return None;
        }
        if let Some(end) = pause(FINAL_FLUSH_PAUSE, &mut Instant::now()) {
            return Some(end);
        }
    }
}

/// Tries the lock of the session.
fn lock() -> bool {
    // SAFETY: a plain lock tag of this database; does not wait.
    unsafe {
        let tag = pg_sys::LOCKTAG {
            locktag_field1: pg_sys::MyDatabaseId.to_u32(),
            locktag_field2: 0,
            locktag_field3: 0,
            locktag_field4: LOCK_CLASS,
            locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
            locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
        };
        let mode = pg_sys::ExclusiveLock as pg_sys::LOCKMODE;
        pg_sys::LockAcquire(&tag, mode, true, true)
            != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }
}

fn serve() -> End {
    let mut next_look = Instant::now();
    let mut next_last_uses = Instant::now();
    let mut until_flush = guc::request_counter_flush_interval();
    loop {
        if let Some(end) = pause(until_flush, &mut next_look) {
            return end;
        }
        until_flush = match flush::flush() {
            true => guc::request_counter_flush_interval(),
            false => FAILURE_PAUSE,
        };
        if Instant::now() >= next_last_uses {
            let until_next = match last_use_writer::round(false) {
                true => LAST_USE_ROUND,
                false => LAST_USE_FAILURE_PAUSE,
            };
            next_last_uses = Instant::now() + until_next;
        }
    }
}

/// Waits, and asks now and then whether the worker has to leave.
fn pause(pause: Duration, next_look: &mut Instant) -> Option<End> {
    let until = Instant::now() + pause;
    loop {
        let rest = until.saturating_duration_since(Instant::now());
        if !process::wait(rest.min(LEAVE_ROUND)) {
            return Some(End::PostmasterDied);
        }
        process::reload_settings();
        if BackgroundWorker::sigterm_received() {
            return Some(End::Stopped);
        }
        if Instant::now() >= *next_look {
            *next_look = Instant::now() + LEAVE_ROUND;
            // SAFETY: set when the worker was connected.
            let database = unsafe { pg_sys::MyDatabaseId };
            if !process::transaction(|| database_lock::is_free(database)) {
                return Some(End::Leaves);
            }
        }
        if Instant::now() >= until {
            return None;
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
}
