//! The time limit of a brief request (connection_time.rs). A timer of Postgres looks after it: if its tenant may hold another
//! connection by then, the request holds that one, and goes on. Otherwise it is cancelled, as by a statement timeout (57014).
//! That would be a fault of the server to PostgREST, so the outermost execution makes it the refusal that it is. The error is
//! changed when it has passed everything of the request, because an exception block must not catch it: PL/pgSQL's `others`
//! leaves out cancelled statements only. A commit is not cancelled: while it waits for its standby, Postgres would take that for
//! permission not to wait, and the client would be told of success.

use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::time::Duration;

use cee_scape::{SigJmpBufFields, call_with_sigsetjmp};
use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode::ERRCODE_QUERY_CANCELED;
use serde_json::json;

use super::connection_pool::ConnectionPool;
use super::in_flight;
use super::response_headers::{self, Refused};
use crate::guc::connection_time as setting;
use crate::pg::major;
use crate::pg::process::ProcessCell;
use crate::rate_limit::limiter::Key;
use crate::{clock, headers, trust};

/// As in kijko.error_codes, which cannot be read while an error is handled.
const CODE: &str = "rate_limited";
const STATUS: u16 = 429;
const SQLSTATE: [u8; 5] = *b"KJ430";
const MEANING: &str = "Too many requests; try again later.";

static PREVIOUS_RUN: ProcessCell<pg_sys::ExecutorRun_hook_type> = ProcessCell::new(None);
static PREVIOUS_FINISH: ProcessCell<pg_sys::ExecutorFinish_hook_type> = ProcessCell::new(None);

thread_local! {
    static TIMER: Cell<Option<u32>> = const { Cell::new(None) };
    /// The tenant that the timer holds a connection for, and whether it is of a free tier.
    static TENANT: Cell<Option<(Key, bool)>> = const { Cell::new(None) };
    static REFUSED: RefCell<Option<Refused>> = const { RefCell::new(None) };
    static IS_CANCELLED: Cell<bool> = const { Cell::new(false) };
    /// Whether the transaction commits: nothing is left to be cancelled.
    static IS_COMMITTING: Cell<bool> = const { Cell::new(false) };
    /// Whether the next execution is the outermost of a brief request.
    static IS_OUTERMOST: Cell<bool> = const { Cell::new(false) };
}

/// Functions of Postgres without pgrx's guard: an error passes frames here that own nothing.
mod unguarded {
    use pgrx::pg_sys::*;

    unsafe extern "C-unwind" {
        #[allow(non_snake_case, reason = "as Postgres calls it")]
        pub fn standard_ExecutorRun(
            query: *mut QueryDesc,
            direction: ScanDirection::Type,
            count: u64,
            #[cfg(not(feature = "pg18"))] once: bool,
        );
        #[allow(non_snake_case, reason = "as Postgres calls it")]
        pub fn standard_ExecutorFinish(query: *mut QueryDesc);
        #[allow(non_snake_case, reason = "as Postgres calls it")]
        pub fn CopyErrorData() -> *mut ErrorData;
        #[allow(non_snake_case, reason = "as Postgres calls it")]
        pub fn FlushErrorState();
        #[allow(non_snake_case, reason = "as Postgres calls it")]
        pub fn ReThrowError(error: *mut ErrorData) -> !;
        pub fn pg_re_throw() -> !;
        #[allow(non_snake_case, reason = "as Postgres calls it")]
        pub fn RegisterTimeout(id: u32, handler: unsafe extern "C-unwind" fn()) -> u32;
        pub fn enable_timeout_after(id: u32, milliseconds: i32);
        pub fn disable_timeout(id: u32, keep_indicator: bool);
        #[allow(non_snake_case, reason = "as Postgres calls it")]
        pub fn SetLatch(latch: *mut Latch);
    }
}

pub fn init() {
    // SAFETY: while the postmaster starts; a backend has one thread.
    unsafe {
        PREVIOUS_RUN.set(pg_sys::ExecutorRun_hook);
        pg_sys::ExecutorRun_hook = Some(run);
        PREVIOUS_FINISH.set(pg_sys::ExecutorFinish_hook);
        pg_sys::ExecutorFinish_hook = Some(finish);
    }
}

/// May fail, so it comes before the request is admitted.
pub fn register() {
    if TIMER.get().is_none() {
        // SAFETY: the handler lives as long as the library, which is never unloaded.
        let timer = unsafe { unguarded::RegisterTimeout(major::USER_TIMEOUT, at_limit) };
        TIMER.set(Some(timer));
    }
}

/// From here to the end of the transaction. `refused` is what the request ends in if it is cancelled.
pub fn begin(limit: Duration, tenant: Key, is_free: bool, refused: Refused) {
    let Some(timer) = TIMER.get() else { return };
    REFUSED.set(Some(refused));
    TENANT.set(Some((tenant, is_free)));
    IS_OUTERMOST.set(true);
    // SAFETY: registered.
    unsafe { unguarded::enable_timeout_after(timer, limit.as_millis() as i32) };
}

/// From here on it is not cancelled, also if it was to be. Its time is debited all the same.
pub fn commits() {
    IS_COMMITTING.set(true);
    if IS_CANCELLED.get() {
        // SAFETY: a variable of this backend. It was meant for the statements of this transaction.
        unsafe { pg_sys::QueryCancelPending = 0 };
    }
}

/// Whether the request was cancelled.
pub fn end() -> bool {
    if let Some(timer) = TIMER.get() {
        // SAFETY: registered. Does nothing after an error, which has disabled all timers.
        unsafe { unguarded::disable_timeout(timer, false) };
    }
    TENANT.set(None);
    REFUSED.set(None);
    IS_OUTERMOST.set(false);
    IS_COMMITTING.set(false);
    let was_cancelled = IS_CANCELLED.replace(false);
    if was_cancelled {
        // SAFETY: a variable of this backend. It was meant for this transaction, and not for the next one.
        unsafe { pg_sys::QueryCancelPending = 0 };
    }
    was_cancelled
}

/// Runs in a signal handler: atomics and variables of this backend only.
unsafe extern "C-unwind" fn at_limit() {
    let Some((tenant, is_free)) = TENANT.get() else {
        return;
    };
    let pool = ConnectionPool::new(setting::pool_size());
    let holds = pool.is_none_or(|pool| in_flight::hold(pool, tenant, is_free).is_ok());
    if holds {
        return;
    }
    IS_CANCELLED.set(true);
    if IS_COMMITTING.get() {
        return;
    }
    // SAFETY: as Postgres' own handlers.
    unsafe {
        pg_sys::QueryCancelPending = 1;
        pg_sys::InterruptPending = 1;
        unguarded::SetLatch(pg_sys::MyLatch);
    }
}

#[cfg(not(feature = "pg18"))]
unsafe extern "C-unwind" fn run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
    once: bool,
) {
    // SAFETY: called by Postgres, as the hooks before it.
    unsafe {
        refusing(|| match PREVIOUS_RUN.get() {
            Some(previous) => previous(query, direction, count, once),
            None => unguarded::standard_ExecutorRun(query, direction, count, once),
        });
    }
}

#[cfg(feature = "pg18")]
unsafe extern "C-unwind" fn run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
) {
    // SAFETY: as above.
    unsafe {
        refusing(|| match PREVIOUS_RUN.get() {
            Some(previous) => previous(query, direction, count),
            None => unguarded::standard_ExecutorRun(query, direction, count),
        });
    }
}

/// Runs AFTER triggers.
unsafe extern "C-unwind" fn finish(query: *mut pg_sys::QueryDesc) {
    // SAFETY: as above.
    unsafe {
        refusing(|| match PREVIOUS_FINISH.get() {
            Some(previous) => previous(query),
            None => unguarded::standard_ExecutorFinish(query),
        });
    }
}

/// Runs `body`, which owns nothing that an error would leave behind. PG_TRY of Postgres.
unsafe fn refusing(body: impl FnOnce()) {
    if !IS_OUTERMOST.get() {
        return body();
    }
    // SAFETY: as PG_TRY: the former handler and contexts are put back on both ways.
    unsafe {
        let handler = pg_sys::PG_exception_stack;
        let contexts = pg_sys::error_context_stack;
        let memory = pg_sys::CurrentMemoryContext;
        IS_OUTERMOST.set(false);
        let failed = call_with_sigsetjmp(false, |here| {
            pg_sys::PG_exception_stack = (here as *const SigJmpBufFields).cast_mut().cast();
            body();
            0
        }) != 0;
        pg_sys::PG_exception_stack = handler;
        pg_sys::error_context_stack = contexts;
        if !failed {
            IS_OUTERMOST.set(true);
            return;
        }
        pg_sys::CurrentMemoryContext = memory;
        let error = unguarded::CopyErrorData();
        if pg_sys::panic::pgrx_extern_c_guard(|| make_refusal(&mut *error)) {
            unguarded::FlushErrorState();
            unguarded::ReThrowError(error);
        }
        unguarded::pg_re_throw()
    }
}

/// Makes the error the request's refusal if the timer has cancelled it.
fn make_refusal(error: &mut pg_sys::ErrorData) -> bool {
    if error.sqlerrcode != ERRCODE_QUERY_CANCELED as i32 || !IS_CANCELLED.get() {
        return false;
    }
    let Some(refused) = REFUSED.take() else {
        return false;
    };
    let (sqlstate, message, detail) = match trust::is_request() {
        true => (*b"PGRST", body(&refused), answer(&refused)),
        false => (SQLSTATE, format!("{CODE}: {MEANING}"), refused.details),
    };
    error.sqlerrcode = encode(sqlstate);
    error.message = copy(message);
    error.detail = copy(detail);
    error.hint = std::ptr::null_mut();
    true
}

/// What PostgREST answers, as kijko.fail() tells it.
fn body(refused: &Refused) -> String {
    json!({"code": CODE, "message": MEANING, "details": refused.details, "hint": null}).to_string()
}

fn answer(refused: &Refused) -> String {
    let now = clock::unix_seconds(clock::real_micros());
    let limits = response_headers::of_limits(&[refused.limit], now, true);
    let mut all = headers::all_of_response();
    all.extend(
        limits
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into())),
    );
    json!({"status": STATUS, "headers": all}).to_string()
}

/// MAKE_SQLSTATE of Postgres.
fn encode(sqlstate: [u8; 5]) -> i32 {
    let six_bits = |byte: u8| i32::from(byte.wrapping_sub(b'0') & 0x3f);
    let bits = sqlstate.iter().enumerate();
    bits.map(|(at, byte)| six_bits(*byte) << (6 * at)).sum()
}

/// In memory of Postgres.
fn copy(text: String) -> *mut std::ffi::c_char {
    let text = CString::new(text).unwrap_or_default();
    // SAFETY: copies a string.
    unsafe { pg_sys::pstrdup(text.as_ptr()) }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn codes_are_encoded_as_postgres_does() {
        assert_eq!(encode(*b"57014"), ERRCODE_QUERY_CANCELED as i32);
        assert_eq!(encode(*b"00000"), 0);
    }
}
