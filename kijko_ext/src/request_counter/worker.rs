//! The background worker that moves counts to the ledger, in one transaction a round, and in none while nothing was counted. In
//! transactions of their own it writes the last uses of API keys. It serves one database, kijko.database. On a standby it starts
//! at promotion.

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags,
};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

use super::METER;
use super::pending::{self, PendingCount};
use crate::api_key::{last_use, last_use_writer};
use crate::guc;
use crate::quota::api::metered_usage;

/// How long to wait after a failure.
const FAILURE_PAUSE: Duration = Duration::from_millis(1_000);
const MAX_FINAL_FLUSHES: u32 = 100;
const FINAL_FLUSH_PAUSE: Duration = Duration::from_millis(20);
/// How often last uses are looked for.
const LAST_USE_ROUND: Duration = Duration::from_secs(1);
/// After a failure, which may have taken the whole lock timeout.
const LAST_USE_FAILURE_PAUSE: Duration = Duration::from_secs(10);

pub fn register() {
    // pg_upgrade wants a database to itself.
    // SAFETY: the postmaster has read its arguments.
    if unsafe { pg_sys::IsBinaryUpgrade } {
        return;
    }
    BackgroundWorkerBuilder::new("kijko request counter")
        .set_library("kijko")
        .set_function("kijko_request_counter_worker")
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(Duration::from_secs(1)))
        .load();
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kijko_request_counter_worker(_argument: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    BackgroundWorker::connect_worker_to_spi(Some(&guc::database()), None);
    let mut pause = guc::request_counter_flush_interval();
    let mut next_round = Instant::now();
    loop {
        let alone = !wait(pause);
        if BackgroundWorker::sighup_received() {
            // SAFETY: between transactions.
            unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
        }
        if alone || BackgroundWorker::sigterm_received() {
            break;
        }
        pause = if flush() {
            guc::request_counter_flush_interval()
        } else {
            FAILURE_PAUSE
        };
        if Instant::now() >= next_round {
            let written = write_last_uses(false);
            let until_next = if written {
                LAST_USE_ROUND
            } else {
                LAST_USE_FAILURE_PAUSE
            };
            next_round = Instant::now() + until_next;
        }
    }
    // Other backends stop at the same time. Their last counts are moved as well.
    for _ in 0..MAX_FINAL_FLUSHES {
        flush();
        // SAFETY: reads shared memory.
        if unsafe { pg_sys::CountDBConnections(pg_sys::MyDatabaseId) } == 0
            || !wait(FINAL_FLUSH_PAUSE)
        {
            break;
        }
    }
    flush();
    write_last_uses(true);
    // Not zero: a worker that was terminated is started again, unless the server stops.
    unsafe { pg_sys::proc_exit(1) };
}

/// False when the postmaster is gone.
fn wait(pause: Duration) -> bool {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_POSTMASTER_DEATH;
    // SAFETY: this process's own latch.
    let event = unsafe {
        let event = pg_sys::WaitLatch(
            pg_sys::MyLatch,
            events as i32,
            pause.as_millis() as i64,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
        event
    };
    // DROP DATABASE waits until everybody has answered.
    check_for_interrupts!();
    event as u32 & pg_sys::WL_POSTMASTER_DEATH == 0
}

/// Moves the counts to the ledger. Returns false and puts them back when that failed.
fn flush() -> bool {
    let counts = pending::counts();
    if counts.is_empty() {
        return true;
    }
    let taken = RefCell::new(Vec::with_capacity(counts.len()));
    let Err(error) = attempt(|| record(&counts, &taken)) else {
        return true;
    };
    let lost = taken
        .borrow()
        .iter()
        .filter(|count| !pending::restore(count))
        .count();
    pending::mark_dirty();
    pending::count_failure();
    log!("kijko request counter: {} ({lost} counts lost)", error);
    false
}

/// False when that failed. The uses then wait for a later round.
fn write_last_uses(all: bool) -> bool {
    let due = last_use_writer::due(all);
    if due.is_empty() {
        return true;
    }
    match attempt(|| last_use_writer::write(&due)) {
        Ok(done) => {
            last_use_writer::mark_written(&done, &due);
            true
        }
        Err(error) => {
            last_use::mark_dirty();
            log!("kijko last uses of API keys: {error}");
            false
        }
    }
}

/// Runs `body` in a transaction. An error is its message.
fn attempt<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    let answer = PgTryBuilder::new(AssertUnwindSafe(|| Ok(transaction(body))))
        .catch_others(|error| Err(Box::new(error)))
        .execute();
    // SAFETY: ends whatever state an error left; otherwise outside a transaction.
    unsafe {
        match &answer {
            Ok(_) => _ = pg_sys::pgstat_report_stat(false),
            Err(_) => pg_sys::AbortCurrentTransaction(),
        }
    }
    answer.map_err(|error| message(&error))
}

fn transaction<T>(body: impl FnOnce() -> T) -> T {
    // SAFETY: the worker's own transaction, with the snapshot that queries need.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let answer = body();
        pg_sys::PopActiveSnapshot();
        pg_sys::CommitTransactionCommand();
        answer
    }
}

fn record(counts: &[PendingCount], taken: &RefCell<Vec<PendingCount>>) {
    for count in counts {
        let take = || {
            pending::mark_recorded(count);
            taken.borrow_mut().push(*count);
        };
        // An extension that was dropped has no ledger: what was counted for it is worth nothing.
        if !metered_usage::is_installed() {
            pending::mark_recorded(count);
        } else if metered_usage::record(&count.subject, METER, count.amount as i64, take).is_err() {
            pending::mark_dirty(); // no room for its counter among those of running transactions
        }
    }
}

fn message(error: &CaughtError) -> String {
    let (CaughtError::PostgresError(report)
    | CaughtError::ErrorReport(report)
    | CaughtError::RustPanic {
        ereport: report, ..
    }) = error;
    report.message().to_owned()
}
