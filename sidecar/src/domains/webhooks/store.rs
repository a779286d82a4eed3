//! The database function of this domain; the only SQL.

use std::collections::BTreeMap;

use kijko_core::db::{Db, DbError};
use serde::Deserialize;

const BACKLOG: &str = "select to_jsonb(b) from private.webhooks_outbox_backlog() as b";

/// The outbox at one moment.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Outbox {
    /// Requests behind another one of their key.
    pub waiting: i64,
    /// Requests that are to be sent, now or later.
    pub pending: i64,
    /// Requests that were given up.
    pub dead: i64,
    /// For how long the oldest has been due.
    pub oldest_due_seconds: f64,
    /// Those whose requests have been due for longest.
    pub hosts: Vec<Host>,
    /// Those whose attempts of the last five minutes failed most.
    pub attempts: Vec<Attempts>,
    /// Of all databases of the server, since it started.
    pub figures: BTreeMap<String, u64>,
}

/// An origin with requests that are due.
#[derive(Debug, Deserialize)]
pub(super) struct Host {
    /// Scheme, host and port.
    pub origin: String,
    /// Requests that are due.
    pub due: i64,
    /// Of these, requests that have failed before.
    pub retrying: i64,
    /// For how long the oldest has been due.
    pub oldest_seconds: f64,
}

/// How the latest attempts of an origin ended.
#[derive(Debug, Deserialize)]
pub(super) struct Attempts {
    /// Scheme, host and port.
    pub origin: String,
    /// Answered with 2xx.
    pub succeeded: i64,
    /// All others.
    pub failed: i64,
}

/// Asks.
pub(super) async fn outbox(db: &Db) -> Result<Outbox, DbError> {
    let answer: serde_json::Value = db.scalar(BACKLOG, &[]).await?;
    serde_json::from_value(answer).map_err(|error| DbError::Unexpected(error.to_string()))
}
