//! A claimed job, and how it can fail.

use std::{borrow::Cow, time::Duration};

use serde_json::Value;
use uuid::Uuid;

use crate::db::DbError;

/// A claimed job.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its identity.
    pub id: Uuid,
    /// The organization it is for.
    pub org_id: Uuid,
    /// What is to be done.
    pub kind: String,
    /// What the handler needs to know, before it is read as the kind's type.
    pub payload: Value,
    /// Which attempt this is, from 1.
    pub attempt: i32,
    /// The last attempt there will be.
    pub max_attempts: i32,
    /// How long this attempt may take.
    pub timeout: Duration,
    /// How long it had been due when it was claimed, by the database's clock.
    pub waited: Duration,
}

/// Why a job failed. Code and message are shown to the organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Short name. Programs act on it: it does not change.
    pub code: Cow<'static, str>,
    /// In words.
    pub message: String,
    /// Whether another attempt may succeed.
    pub retryable: bool,
    /// Not before that.
    pub retry_after: Option<Duration>,
    /// The service behind it was down: this counts against the kind, and for the first 24 hours not against this job.
    pub outage: bool,
}

impl Failure {
    /// A failure that another attempt would repeat.
    pub fn permanent(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            retryable: false,
            retry_after: None,
            outage: false,
        }
    }

    /// A failure that another attempt may not repeat.
    pub fn transient(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            retryable: true,
            ..Self::permanent(code, message)
        }
    }

    /// A failure of ours: the organization learns only that, the log has the cause.
    pub fn internal() -> Self {
        Self::transient("internal", "something went wrong on our side")
    }
}

/// How a handler ends without a result.
#[derive(Debug)]
pub enum HandlerError {
    /// The job failed.
    Failed(Failure),
    /// There is nothing (more) to do: the job was cancelled, or its lease went to another worker.
    Superseded,
    /// The job has not begun, because another transaction holds its rows. It is handed back, for later.
    Held,
    /// The database could not be asked.
    Database(DbError),
}

impl From<DbError> for HandlerError {
    fn from(error: DbError) -> Self {
        Self::Database(error)
    }
}

impl From<Failure> for HandlerError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}
