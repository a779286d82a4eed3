//! How an attempt ends without a commit, and who learns what of it.

use kijko_core::{
    db::DbError,
    jobs::{Failure, HandlerError},
};

use crate::{child::ChildError, metrics::IndexerSeries};

/// Why an attempt ends before its commit.
pub enum Problem {
    /// As the job ends.
    Handler(HandlerError),
    /// What the child says, or how it ended.
    Child(ChildError),
}

impl Problem {
    /// For the log, and for the organization.
    pub fn reported(self, series: &IndexerSeries) -> HandlerError {
        match self {
            Self::Handler(error) => error,
            Self::Child(ChildError::Failed { code, message }) => {
                Failure::permanent(code, message).into()
            }
            Self::Child(ChildError::Io(error)) => internal(error),
            Self::Child(error) => {
                series.child_failures.inc();
                tracing::warn!(%error, "a child failed");
                let text = "the repository cannot be read within the limits of memory and time";
                Failure::permanent("parse_failed", text).into()
            }
        }
    }
}

impl From<HandlerError> for Problem {
    fn from(error: HandlerError) -> Self {
        Self::Handler(error)
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Handler(failure.into())
    }
}

impl From<DbError> for Problem {
    fn from(error: DbError) -> Self {
        Self::Handler(error.into())
    }
}

impl From<ChildError> for Problem {
    fn from(error: ChildError) -> Self {
        Self::Child(error)
    }
}

/// The lease is lost, or the job is cancelled or superseded.
pub fn go_on(yes: bool) -> Result<(), HandlerError> {
    match yes {
        true => Ok(()),
        false => Err(HandlerError::Superseded),
    }
}

/// A fault of this machine.
pub fn internal(error: std::io::Error) -> HandlerError {
    tracing::error!(%error, "the cache or the child cannot be used");
    Failure::internal().into()
}

/// `quota_exceeded` of the database says that the plan's limit is reached.
pub fn over_limit(error: DbError, code: &'static str) -> HandlerError {
    match &error {
        DbError::Refused { code: state, .. } if state == "KJ429" => {
            let text = match code {
                "too_many_files" => "the branch has more files than the plan allows",
                _ => "the files of the branch are larger than the plan allows",
            };
            Failure::permanent(code, text).into()
        }
        _ => error.into(),
    }
}
