//! Why a statement gave no answer, and whether another try may.

use std::time::Duration;

use tokio_postgres::error::SqlState;

/// The SQLSTATE of a request that `kijko.fail()` refuses: the message is the body of the answer.
pub const REFUSAL: &str = "PGRST";

/// Why a statement gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DbError {
    /// TLS could not be set up at all; a matter of configuration.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// No connection, or it broke.
    #[error("the database cannot be reached: {0}")]
    Unreachable(String),
    /// No answer in time; the statement was cancelled and its connection closed.
    #[error("the database did not answer within {0:?}")]
    TimedOut(Duration),
    /// Postgres answered with an error.
    #[error("the database refused: {code} {message}")]
    Refused {
        /// The SQLSTATE.
        code: String,
        /// Postgres' message; for the log only.
        message: String,
        /// Postgres' detail. Of a refusal by `kijko.fail()`: status and headers of its answer.
        detail: Option<String>,
        /// Postgres' hint.
        hint: Option<String>,
        /// Whether the same call may succeed later.
        transient: bool,
    },
    /// An answer of an unexpected shape: the migrations and this build do not belong together. Or the server refuses the login, for
    /// good.
    #[error("the database answered something unexpected: {0}")]
    Unexpected(String),
}

impl DbError {
    /// A refusal by its SQLSTATE, also one that the database reports in a row.
    pub(crate) fn refused(code: &str, message: &str) -> Self {
        Self::Refused {
            code: code.to_owned(),
            message: message.to_owned(),
            detail: None,
            hint: None,
            transient: is_transient(&SqlState::from_code(code)),
        }
    }

    /// The same for an error before there was a connection. It is about the login or the server, never about a statement, so callers must
    /// not take its code for the answer to theirs.
    pub(super) fn without_connection(self) -> Self {
        // Of the server as a whole. Callers tell them apart.
        let is_of_the_server = matches!(&self, Self::Refused { code, .. } if matches!(code.get(..2), Some("08" | "53" | "57")));
        match self {
            Self::Refused {
                transient: false, ..
            } => Self::Unexpected(format!("no connection: {self}")),
            Self::Refused { .. } if !is_of_the_server => Self::Unreachable(self.to_string()),
            other => other,
        }
    }

    /// What the statement needs is held by others.
    pub(super) fn held(message: &str) -> Self {
        Self::refused(SqlState::LOCK_NOT_AVAILABLE.code(), message)
    }

    /// Whether waiting and calling again makes sense.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::TimedOut(_) => true,
            Self::Refused { transient, .. } => *transient,
            Self::Tls(_) | Self::Unexpected(_) => false,
        }
    }

    /// Whether others hold what the statement must lock, or the connection that it needs.
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == SqlState::LOCK_NOT_AVAILABLE.code())
    }

    /// Whether the database itself is unreachable, whatever the statement.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused { code, .. } => {
                code.starts_with("08") || matches!(code.as_str(), "57P01" | "57P02" | "57P03")
            }
            Self::Tls(_) | Self::TimedOut(_) | Self::Unexpected(_) => false,
        }
    }

    /// Whether the data that was sent cannot be stored: no value of its type, more than a check allows, or nested too deep.
    pub fn is_about_the_data(&self) -> bool {
        matches!(self, Self::Refused { code, .. }
            if code.starts_with("22") || code.starts_with("54") || code == SqlState::CHECK_VIOLATION.code())
    }
}

impl From<tokio_postgres::Error> for DbError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => Self::Refused {
                code: db.code().code().to_owned(),
                message: db.message().to_owned(),
                detail: db.detail().map(str::to_owned),
                hint: db.hint().map(str::to_owned),
                transient: is_transient(db.code()),
            },
            None => Self::Unreachable(with_causes(&error)),
        }
    }
}

/// As `kijko.fail()` refuses a request. Its statement is as good as before.
pub(super) fn is_refusal(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| code.code() == REFUSAL)
}

/// Connection trouble, resources, shutdown and start-up, serialization and locks pass by themselves; so does a
/// statement whose plan was cached before a migration changed its function, since the cache is emptied on errors.
fn is_transient(code: &SqlState) -> bool {
    let class = code.code().get(..2).unwrap_or_default();
    matches!(class, "08" | "40" | "53" | "57" | "58")
        || [
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::FEATURE_NOT_SUPPORTED,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        ]
        .contains(code)
}

/// An error with its causes in one line; most crates keep the interesting part in `source`.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_connection_is_no_refused_statement() {
        for code in ["28P01", "28000", "3D000", "42501"] {
            let error = DbError::refused(code, "no").without_connection();
            assert!(matches!(error, DbError::Unexpected(_)), "{error:?}");
            assert!(error.to_string().contains(code), "{error}");
            assert!(!error.is_transient(), "{error}");
        }
        let full = DbError::refused("53300", "too many clients").without_connection();
        assert!(full.is_transient() && !full.is_away(), "{full}");
        let starting = DbError::refused("57P03", "starting up").without_connection();
        assert!(starting.is_transient() && starting.is_away(), "{starting}");
        let odd = DbError::refused("0A000", "no").without_connection();
        assert!(matches!(odd, DbError::Unreachable(_)), "{odd:?}");
    }

    #[test]
    fn refusals_that_pass_by_themselves_are_transient() {
        for state in [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::TOO_MANY_CONNECTIONS,
        ] {
            assert!(is_transient(&state), "{state:?}");
        }
        for state in [
            SqlState::INSUFFICIENT_PRIVILEGE,
            SqlState::UNDEFINED_FUNCTION,
            SqlState::INVALID_PASSWORD,
        ] {
            assert!(!is_transient(&state), "{state:?}");
        }
    }
}
