//! Tickets of the sidecar, which the database has sealed and opens.

use serde::Deserialize;

use crate::{
    database::{Database, Object, Owner},
    error::StorageError,
};

/// An object that the sidecar may write.
#[derive(Debug, Deserialize)]
pub struct Writable {
    /// The bucket.
    pub bucket_id: String,
    /// The path.
    pub name: String,
    /// Whose it will be.
    pub owner: Owner,
}

impl Database {
    /// The row of the object that a ticket of the sidecar is for.
    pub async fn open_ticket(&self, ticket: &str) -> Result<Option<Object>, StorageError> {
        let sql = "select storage_service.open_ticket($1)";
        self.json(sql, &[&ticket]).await
    }

    /// What a ticket of the sidecar lets it write.
    pub async fn open_upload_ticket(&self, ticket: &str) -> Result<Option<Writable>, StorageError> {
        let sql = "select storage_service.open_upload_ticket($1)";
        self.json(sql, &[&ticket]).await
    }
}
