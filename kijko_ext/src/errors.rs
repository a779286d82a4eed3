//! Whether this transaction answers a PostgREST request. The one raise path, `kijko.fail`, is plpgsql (errors.sql):
//! a foreign SQLSTATE cannot cross pgrx, whose list of codes is closed.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::session;

/// For faults of the operator (configuration, nonsense arguments), which no client causes. What clients cause goes
/// through `kijko.fail`.
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

/// True inside PostgREST: a trusted login, and a request's method.
#[pg_extern(stable, parallel_safe)]
pub fn is_request() -> bool {
    session::with_setting(c"request.method", |_| ()).is_some() && session::is_trusted()
}
