//! Runs what may fail without failing the transaction: in a subtransaction, as an exception block does.

use std::panic::AssertUnwindSafe;
use std::ptr;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

/// The answer, or the message of the error that was raised instead. Being cancelled is not caught.
pub fn attempt<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    // SAFETY: as plpgsql does it: memory and resources of the caller are those of the caller again, however it ends.
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
