//! The database functions of billing; the only SQL of this domain.

use kijko_core::db::{Db, DbError};
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use super::{client::API_VERSION, config::Account, params::Ticket};

/// The functions.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    db: Db,
    livemode: bool,
}

impl Store {
    pub(crate) fn new(db: Db, account: &Account) -> Self {
        Self {
            db,
            livemode: account.livemode,
        }
    }

    /// Says which account this is, and gives the outbox its key.
    pub(crate) async fn register(&self, account: &Account) -> Result<(), DbError> {
        let sql = "select private.billing_register($1, $2, $3, $4)";
        let (url, key) = (account.api_url.as_str(), account.key.expose());
        self.db
            .query(sql, &[&url, &API_VERSION, &self.livemode, &key])
            .await
            .map(drop)
    }

    /// `None` when the ticket has expired or is of the other mode.
    pub(super) async fn open(&self, ticket: &str) -> Result<Option<Ticket>, DbError> {
        let sql = "select private.billing_open($1, $2)";
        self.read(sql, self.db.scalar(sql, &[&ticket, &self.livemode]).await)
    }

    /// The customer that counts; `None` when the organization is gone.
    pub(super) async fn record_customer(
        &self,
        org: Uuid,
        customer: &str,
        gone: Option<&str>,
    ) -> Result<Option<String>, DbError> {
        let sql = "select private.billing_record_customer($1, $2, $3, $4)";
        self.db
            .scalar(sql, &[&org, &self.livemode, &customer, &gone])
            .await
    }

    /// Keeps a checkout; the earlier ones that are still open. `None` when the organization is gone.
    pub(super) async fn record_session(
        &self,
        org: Uuid,
        session: &str,
        has_trial: bool,
    ) -> Result<Option<Vec<String>>, DbError> {
        let sql = "select private.billing_record_session($1, $2, $3, $4)";
        let earlier = self
            .db
            .scalar(sql, &[&org, &self.livemode, &session, &has_trial])
            .await;
        self.read(sql, earlier)
    }

    /// `state`: complete or expired.
    pub(super) async fn end_session(&self, session: &str, state: &str) -> Result<(), DbError> {
        let sql = "select private.billing_end_session($1, $2, $3)";
        self.db
            .query(sql, &[&session, &self.livemode, &state])
            .await
            .map(drop)
    }

    pub(super) async fn record_object(
        &self,
        kind: &str,
        name: &str,
        id: &str,
    ) -> Result<(), DbError> {
        let sql = "select private.billing_record_object($1, $2, $3, $4)";
        self.db
            .query(sql, &[&kind, &name, &self.livemode, &id])
            .await
            .map(drop)
    }

    pub(super) async fn catalogue<T: DeserializeOwned>(&self) -> Result<T, DbError> {
        let sql = "select private.billing_catalogue()";
        let found = self.read(sql, self.db.scalar::<Value>(sql, &[]).await.map(Some))?;
        found.ok_or_else(|| DbError::Unexpected(sql.to_owned()))
    }

    /// How Stripe's subscriptions differ from the mirrored ones, in words.
    pub(super) async fn compare(&self, subscriptions: &Value) -> Result<Vec<String>, DbError> {
        let sql = "select private.billing_compare($1, $2)";
        let found = self
            .db
            .scalar::<Value>(sql, &[subscriptions, &self.livemode])
            .await;
        Ok(self.read(sql, found.map(Some))?.unwrap_or_default())
    }

    /// Which of these customers of Stripe are not known here, or as another organization's, in words.
    pub(super) async fn compare_customers(
        &self,
        customers: &Value,
    ) -> Result<Vec<String>, DbError> {
        let sql = "select private.billing_compare_customers($1, $2)";
        let found = self
            .db
            .scalar::<Value>(sql, &[customers, &self.livemode])
            .await;
        Ok(self.read(sql, found.map(Some))?.unwrap_or_default())
    }

    fn read<T: DeserializeOwned>(
        &self,
        sql: &str,
        answer: Result<Option<Value>, DbError>,
    ) -> Result<Option<T>, DbError> {
        answer?
            .map(serde_json::from_value)
            .transpose()
            .map_err(|error| DbError::Unexpected(format!("{sql}: {error}")))
    }
}
