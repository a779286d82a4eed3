//! The database function of functions; the only SQL of this domain.

use kijko_core::db::{Db, DbError};
use serde::Deserialize;
use serde_json::Value;

/// The function.
#[derive(Debug, Clone)]
pub(super) struct Store {
    db: Db,
}

/// What a ticket allows.
#[derive(Deserialize)]
pub(super) struct Call {
    pub url: String,
    pub methods: Vec<String>,
    pub timeout_seconds: u64,
    pub max_response_bytes: u64,
    /// Hosts of the operator's own network that may be reached.
    pub allowed_hosts: String,
    /// By whom calls at once are counted.
    pub share: String,
    /// A secret: with it one is the caller, for the server behind.
    pub assertion: String,
}

impl Store {
    pub(super) fn new(db: Db) -> Self {
        Self { db }
    }

    /// `None` when the ticket has expired or the function is gone.
    pub(super) async fn open(&self, ticket: &str) -> Result<Option<Call>, DbError> {
        let sql = "select private.functions_open($1)";
        let call: Option<Value> = self.db.scalar(sql, &[&ticket]).await?;
        call.map(serde_json::from_value)
            .transpose()
            .map_err(|error| DbError::Unexpected(format!("functions_open: {error}")))
    }
}
