//! The background worker that moves counts to the ledger, in one transaction a round, and in none while nothing was counted. It
//! serves one database, kijko.database. On a standby it starts at promotion.

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags,
};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

use super::METER;
use super::pending::{self, PendingCount};
use crate::guc;
use crate::quota::api::metered_usage;

/// How long to wait after a failure.
const FAILURE_PAUSE: Duration = Duration::from_millis(1_000);
const MAX_FINAL_FLUSHES: u32 = 100;
const FINAL_FLUSH_PAUSE: Duration = Duration::from_millis(20);

pub fn register() {
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
    let error = PgTryBuilder::new(AssertUnwindSafe(|| {
        transaction(|| record(&counts, &taken));
        None
    }))
    .catch_others(Some)
    .execute();
    let Some(error) = error else {
        // SAFETY: outside a transaction.
        unsafe { pg_sys::pgstat_report_stat(false) };
        return true;
    };
    // SAFETY: ends whatever state the error left.
    unsafe { pg_sys::AbortCurrentTransaction() };
    let lost = taken
        .borrow()
        .iter()
        .filter(|count| !pending::restore(count))
        .count();
    pending::mark_dirty();
    pending::count_failure();
    log!(
        "kijko request counter: {} ({lost} counts lost)",
        message(&error)
    );
    false
}

fn transaction(body: impl FnOnce()) {
    // SAFETY: the worker's own transaction, with the snapshot that queries need.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        body();
        pg_sys::PopActiveSnapshot();
        pg_sys::CommitTransactionCommand();
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
