//! Errors that the operator causes. What clients cause goes through `kijko.fail`, which is plpgsql (errors.sql): a foreign
//! SQLSTATE cannot cross pgrx, whose list of codes is closed.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// Raises an error for a fault of the operator: configuration, or arguments that make no sense.
pub fn raise(
    sqlstate: PgSqlErrorCode,
    message: &str,
    detail: Option<String>,
    hint: Option<&'static str>,
) -> ! {
    let mut report = ErrorReport::new(sqlstate, message.to_owned(), "");
    if let Some(detail) = detail {
        report = report.set_detail(detail);
    }
    if let Some(hint) = hint {
        report = report.set_hint(hint);
    }
    report.report(PgLogLevel::ERROR);
    unreachable!("a report of level ERROR does not return")
}

/// A call that makes no sense.
pub fn bad_argument(message: &str) -> ! {
    raise(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        &format!("bad_request: {message}"),
        None,
        None,
    )
}
