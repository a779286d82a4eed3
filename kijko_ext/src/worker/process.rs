//! What the launcher and the workers have in common.

use std::ffi::CStr;
use std::os::fd::RawFd;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgrx::bgworkers::{BackgroundWorker, SignalWakeFlags};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

/// Whether SIGTERM has come.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// For a worker that commits. While a commit waits for a standby that is lost, Postgres looks at nothing but its own flags: a
/// worker that only notes the signal would keep the server from stopping.
pub fn attach_signal_handlers() {
    let terminate = Some(stop as unsafe extern "C-unwind" fn(i32));
    // SAFETY: the handler touches variables of this process only.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::pqsignal(pg_sys::SIGTERM as i32, terminate);
        #[cfg(feature = "pg18")]
        pg_sys::pqsignal_be(pg_sys::SIGTERM as i32, terminate);
    }
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP);
}

/// Without `InterruptPending`, so that only such a wait ends, and no statement.
unsafe extern "C-unwind" fn stop(_signal: i32) {
    STOPPING.store(true, Ordering::SeqCst);
    // SAFETY: as Postgres' own handlers.
    unsafe {
        pg_sys::QueryCancelPending = 1;
        set_latch(pg_sys::MyLatch);
    }
}

unsafe extern "C-unwind" {
    /// Without pgrx's guard, for a signal handler.
    #[link_name = "SetLatch"]
    fn set_latch(latch: *mut pg_sys::Latch);
}

/// Whether SIGTERM has come. Commits from now on do not wait for a standby: what they write is on this server's disk.
pub fn is_stopping() -> bool {
    let stopping = STOPPING.load(Ordering::SeqCst);
    if stopping {
        // SAFETY: a variable of this process.
        unsafe { pg_sys::QueryCancelPending = 0 };
        set_option(c"synchronous_commit", c"local");
    }
    stopping
}

/// Waits for the latch. False when the postmaster is gone.
pub fn wait(pause: Duration) -> bool {
    wait_readable(pause, None)
}

/// The same, also until a descriptor is readable.
pub fn wait_readable(pause: Duration, readable: Option<RawFd>) -> bool {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_POSTMASTER_DEATH;
    let socket = readable.map_or(0, |_| pg_sys::WL_SOCKET_READABLE);
    // SAFETY: this process's own latch, and an open descriptor.
    let event = unsafe {
        let event = pg_sys::WaitLatchOrSocket(
            pg_sys::MyLatch,
            (events | socket) as i32,
            readable.unwrap_or(pg_sys::PGINVALID_SOCKET),
            pause.as_millis() as i64,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
        event
    };
    // DROP DATABASE waits until every process has answered.
    check_for_interrupts!();
    event as u32 & pg_sys::WL_POSTMASTER_DEATH == 0
}

/// Between transactions. True when there was something to reload.
pub fn reload_settings() -> bool {
    let reload = BackgroundWorker::sighup_received();
    if reload {
        // SAFETY: between transactions.
        unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
    }
    reload
}

/// Sets a setting of this process for good.
pub fn set_option(name: &CStr, value: &CStr) {
    // SAFETY: both are strings, which are copied.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_OVERRIDE,
        );
    }
}

/// For a process all of whose queries are probes of indexes. It plans each once, often while the tables are empty, when a scan of
/// the whole table seems cheapest; that plan would stay until the tables are analyzed, however large they have become.
pub fn plan_by_indexes() {
    for other in [
        c"enable_seqscan",
        c"enable_bitmapscan",
        c"enable_hashjoin",
        c"enable_mergejoin",
        c"enable_sort",
        c"jit",
    ] {
        set_option(other, c"off");
    }
}

/// Runs `body` in a transaction. An error is its message.
pub fn attempt<T>(body: impl FnOnce() -> T) -> Result<T, String> {
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

/// The process's own transaction, with the snapshot that queries need.
pub fn transaction<T>(body: impl FnOnce() -> T) -> T {
    // SAFETY: outside any other transaction. An error ends the process, or is caught by `attempt`.
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

fn message(error: &CaughtError) -> String {
    let (CaughtError::PostgresError(report)
    | CaughtError::ErrorReport(report)
    | CaughtError::RustPanic {
        ereport: report, ..
    }) = error;
    report.message().to_owned()
}
