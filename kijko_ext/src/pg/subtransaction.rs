//! Runs code that may fail without failing the transaction, as an exception block of plpgsql does.

use std::panic::AssertUnwindSafe;
use std::ptr;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

/// Returns the result of `body`, or the message of the error that it raised. A cancelled statement is not caught.
pub fn in_subtransaction<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    // SAFETY: as in plpgsql. Memory context and resource owner are the caller's again, also after an error.
    unsafe {
        let memory = pg_sys::CurrentMemoryContext;
        let resources = pg_sys::CurrentResourceOwner;
        pg_sys::BeginInternalSubTransaction(ptr::null());
        pg_sys::MemoryContextSwitchTo(memory);
        let answer = PgTryBuilder::new(AssertUnwindSafe(|| Ok(body())))
            .catch_others(|error| Err(Box::new(error)))
            .execute();
        match answer {
            Ok(_) => pg_sys::ReleaseCurrentSubTransaction(),
            Err(_) => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
        }
        pg_sys::MemoryContextSwitchTo(memory);
        pg_sys::CurrentResourceOwner = resources;
        answer.map_err(|error| message(*error))
    }
}

fn message(error: CaughtError) -> String {
    let (CaughtError::PostgresError(report)
    | CaughtError::ErrorReport(report)
    | CaughtError::RustPanic {
        ereport: report, ..
    }) = &error;
    if report.sql_error_code() == PgSqlErrorCode::ERRCODE_QUERY_CANCELED {
        error.rethrow();
    }
    report.message().to_owned()
}
