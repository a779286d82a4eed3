//! Errors of requests in the server's log. Every client can cause errors without end, so those that are the client's own do
//! not fill the log, and keep values of the client out of it:
//!
//! - a refusal by kijko.fail() is not logged (one that is a fault of the server's has a line of its own);
//! - an error of the client's statement itself (a malformed value, a row that exists already) is not logged;
//! - the same error inside a function may be the function's fault: at most one a second is logged.
//!
//! What PostgREST answers with a 5xx is always logged. `kijko.stats()` counts what is not. Each line that a request does log says
//! whose it is, in its DETAIL (log_context.rs), which the client does not get.

use std::ffi::CStr;

use pgrx::{PgLogLevel, pg_sys};

use super::{counters, log_context};
use crate::pg::process::ProcessCell;
use crate::trust;

static PREVIOUS: ProcessCell<pg_sys::emit_log_hook_type> = ProcessCell::new(None);

pub fn init() {
    // SAFETY: while the postmaster starts; a backend has one thread.
    unsafe {
        PREVIOUS.set(pg_sys::emit_log_hook);
        pg_sys::emit_log_hook = Some(before_log);
    }
}

/// Postgres handles an error meanwhile: nothing here may fail or read a catalog.
unsafe extern "C-unwind" fn before_log(error: *mut pg_sys::ErrorData) {
    // SAFETY: called by Postgres, as the hooks before it.
    unsafe {
        if let Some(previous) = PREVIOUS.get() {
            previous(error);
        }
        let error = &mut *error;
        if !trust::has_method() {
            return;
        }
        let is_trusted = trust::is_known_request();
        if error.elevel == PgLogLevel::ERROR as i32
            && is_trusted
            && !is_worth_a_line(
                decode(error.sqlerrcode),
                is_in_function(error),
                counters::may_log_error,
            )
        {
            error.output_to_server = false;
            counters::add(|stats| &stats.unlogged_errors);
        }
        if error.output_to_server {
            log_context::add(error, is_trusted);
        }
    }
}

/// By the error's context, which also says where in a value of the client's own statement an error is.
unsafe fn is_in_function(error: &pg_sys::ErrorData) -> bool {
    if error.context.is_null() {
        return false;
    }
    // SAFETY: a string of the error's.
    let context = unsafe { CStr::from_ptr(error.context) }.to_bytes();
    let mut lines = context.split(|byte| *byte == b'\n');
    lines.any(|line| line.starts_with(b"PL/pgSQL function ") || line.starts_with(b"SQL function "))
}

fn is_worth_a_line(
    sqlstate: [u8; 5],
    is_in_function: bool,
    may_log: impl FnOnce() -> bool,
) -> bool {
    match &sqlstate {
        b"PGRST" => false,
        code if !is_clients(code) => true,
        _ => is_in_function && may_log(),
    }
}

/// Whether PostgREST answers with a 4xx.
fn is_clients(sqlstate: &[u8; 5]) -> bool {
    match sqlstate {
        b"25006" | b"P0001" => true,
        b"42P17" => false, // infinite recursion of a policy
        [b'P', b'T', first, ..] => *first == b'4',
        [class @ .., _, _, _] => matches!(
            class,
            b"0A" | b"0L" | b"0P" | b"22" | b"23" | b"28" | b"42" | b"44"
        ),
    }
}

/// Of five characters of six bits each, the reverse of Postgres' MAKE_SQLSTATE.
fn decode(code: i32) -> [u8; 5] {
    std::array::from_fn(|at| (code >> (6 * at) & 0x3f) as u8 + b'0')
}

#[cfg(test)]
mod unit {
    use pgrx::pg_sys::errcodes::PgSqlErrorCode;

    use super::*;

    #[test]
    fn codes_are_decoded_as_postgres_encodes_them() {
        let code = |code: PgSqlErrorCode| decode(code as i32);
        assert_eq!(code(PgSqlErrorCode::ERRCODE_QUERY_CANCELED), *b"57014");
        assert_eq!(code(PgSqlErrorCode::ERRCODE_RAISE_EXCEPTION), *b"P0001");
        assert_eq!(code(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR), *b"XX000");
    }

    #[test]
    fn faults_of_the_server_are_not_the_clients() {
        for code in [
            b"XX000", b"57014", b"53100", b"40P01", b"P0004", b"42P17", b"21000", b"58030",
            b"PT503",
        ] {
            assert!(!is_clients(code));
            assert!(is_worth_a_line(*code, false, || false));
        }
        for code in [
            b"22P02", b"23505", b"42501", b"42703", b"25006", b"P0001", b"PT429",
        ] {
            assert!(is_clients(code));
            assert!(!is_worth_a_line(*code, false, || true));
            assert!(is_worth_a_line(*code, true, || true));
            assert!(!is_worth_a_line(*code, true, || false));
        }
        assert!(!is_worth_a_line(*b"PGRST", true, || true));
    }
}
