//! The database function of this domain; the only SQL.

use kijko_core::db::{Db, DbError};
use serde::Serialize;

/// Asked for with each readiness probe and scrape.
const BACKLOG: &str = "select active, pending, failing, unverified, disabled, oldest_failing_seconds from private.issuers_backlog()";

/// How many issuers are in each state. Names and URLs are their organizations'.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Backlog {
    /// Their keys are known.
    pub active: i64,
    /// Their keys are being fetched for the first time.
    pub pending: i64,
    /// Their keys could not be fetched again. The last good ones stay in use.
    pub failing: i64,
    /// Their keys could never be fetched.
    pub unverified: i64,
    /// Switched off by their organization.
    pub disabled: i64,
    /// How old the oldest keys are of those that fail.
    pub oldest_failing_seconds: f64,
}

/// Asks.
pub(super) async fn backlog(db: &Db) -> Result<Backlog, DbError> {
    db.one(BACKLOG, &[], |row| {
        Ok(Backlog {
            active: row.try_get(0)?,
            pending: row.try_get(1)?,
            failing: row.try_get(2)?,
            unverified: row.try_get(3)?,
            disabled: row.try_get(4)?,
            oldest_failing_seconds: row.try_get(5)?,
        })
    })
    .await
}
