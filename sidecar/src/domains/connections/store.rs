//! The database functions of connections; the only SQL of this domain.

use kijko_core::{
    db::{Db, DbError},
    jobs::{Job, Queue},
    secret::Secret,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::oauth::{
    http::Fault,
    provider::{Application, Provider, Tokens},
    revocations::Due,
};

/// The functions.
#[derive(Debug, Clone)]
pub(super) struct Store {
    db: Db,
}

/// A connection that has begun.
#[derive(Debug, Deserialize)]
pub(super) struct Flow {
    pub flow: Uuid,
    pub provider: String,
    #[serde(default)]
    pub scopes: Vec<String>,
    pub callback: String,
    /// Of the organization; without one, the operator's.
    pub application: Option<Application>,
}

/// What a job is to do.
#[derive(Debug)]
pub(super) enum Work {
    /// Refresh a token, or try one that cannot be refreshed.
    Refresh(Refresh),
    /// Another refresh is under way, for so many seconds at most.
    Wait(u64),
    /// The connection is gone or paused.
    Nothing,
}

impl Work {
    /// By what it has, and not by what fits: a token that cannot be read must not look like nothing to do.
    fn read(work: Value) -> Option<Self> {
        if work.get("token").is_some() {
            return serde_json::from_value(work).ok().map(Self::Refresh);
        }
        match work.get("wait") {
            Some(wait) => wait.as_u64().map(Self::Wait),
            None => work.as_object()?.is_empty().then_some(Self::Nothing),
        }
    }
}

/// A token that this job holds.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Refresh {
    pub token: Uuid,
    pub generation: i32,
    pub provider: String,
    /// Of the organization; without one, the operator's.
    pub application: Option<Application>,
    pub refresh_token: Option<Secret>,
    pub access_token: Option<Secret>,
}

impl Store {
    pub(super) fn new(db: Db) -> Self {
        Self { db }
    }

    /// Says which providers there are, and what a connection may ask them for.
    pub(super) async fn register(
        &self,
        providers: impl Iterator<Item = &Provider>,
    ) -> Result<(), DbError> {
        let named = providers.map(|provider| {
            let config = &provider.config;
            json!({"name": config.name, "scopes": config.connection_scopes})
        });
        let named = Value::Array(named.collect());
        let sql = "select private.connections_register_providers($1)";
        self.db.query(sql, &[&named]).await.map(drop)
    }

    /// Binds a flow to a browser; `None` for a ticket that is not good.
    pub(super) async fn take_ticket(
        &self,
        ticket: &Secret,
        state: &Secret,
        browser: &Secret,
    ) -> Result<Option<Flow>, DbError> {
        let sql = "select private.connections_take_ticket($1, $2, $3)";
        let secrets = [ticket, state, browser].map(Secret::expose);
        let [ticket, state, browser] = &secrets;
        let taken = self.db.scalar(sql, &[ticket, state, browser]).await;
        self.found(sql, unstorable_is_unknown(taken))
    }

    /// Takes a state; `None` if it is not good, or of another browser.
    pub(super) async fn take_state(
        &self,
        state: &Secret,
        browser: &Secret,
    ) -> Result<Option<Flow>, DbError> {
        let sql = "select private.connections_take_state($1, $2)";
        let (state, browser) = (state.expose(), browser.expose());
        let taken = self.db.scalar(sql, &[&state, &browser]).await;
        self.found(sql, unstorable_is_unknown(taken))
    }

    /// Keeps what the provider gave. Where the browser goes; `None` if the flow has ended.
    pub(super) async fn authorized(
        &self,
        flow: Uuid,
        answer: &Value,
    ) -> Result<Option<String>, DbError> {
        let sql = "select private.connections_authorized($1, $2)";
        self.db.scalar(sql, &[&flow, answer]).await
    }

    /// Ends a flow without a connection. Where the browser goes; `None` if it has ended.
    pub(super) async fn fail(
        &self,
        flow: Uuid,
        error: &str,
        description: Option<&str>,
    ) -> Result<Option<String>, DbError> {
        let sql = "select private.connections_fail($1, $2, $3)";
        // The provider's words came through the browser.
        let given = [error, description.unwrap_or_default()];
        let [error, description] = given.map(|text| text.replace('\0', ""));
        self.db.scalar(sql, &[&flow, &error, &description]).await
    }

    /// Claims a refresh; `None` when the job's lease was lost.
    pub(super) async fn start(&self, queue: &Queue, job: &Job) -> Result<Option<Work>, DbError> {
        let sql = "select private.connections_start_refresh($1, $2, $3)";
        let (worker, id, attempt) = (queue.worker(), job.id, job.attempt);
        let work: Option<Value> = self.db.scalar(sql, &[&worker, &id, &attempt]).await?;
        // It is not repeated: it has a token.
        let unexpected = || DbError::Unexpected(format!("the answer to {sql}"));
        let work = work.map(|work| Work::read(work).ok_or_else(unexpected));
        work.transpose()
    }

    /// Keeps the tokens of a refresh; without any, that the provider takes the one that we have.
    pub(super) async fn refreshed(
        &self,
        work: &Refresh,
        tokens: Option<&Tokens>,
    ) -> Result<bool, DbError> {
        let sql = "select private.connections_refreshed($1, $2, $3)";
        let tokens = tokens.map(Tokens::for_the_database);
        self.db
            .scalar(sql, &[&work.token, &work.generation, &tokens])
            .await
    }

    /// Says why there are none. `refused`: there will not be any.
    pub(super) async fn failed(
        &self,
        work: &Refresh,
        fault: Option<&Fault>,
        code: &str,
    ) -> Result<(), DbError> {
        let sql = "select private.connections_refresh_failed($1, $2, $3, $4, $5)";
        let refused = fault.is_none_or(Fault::is_refused_grant);
        let answered = fault.is_none_or(Fault::is_definite);
        let (token, generation) = (&work.token, &work.generation);
        self.db
            .query(sql, &[token, generation, &refused, &answered, &code])
            .await
            .map(drop)
    }

    /// Tokens that are due to be revoked, leased for a while.
    pub(super) async fn due(&self) -> Result<Vec<Due>, DbError> {
        let sql = "select private.connections_claim_revocations()";
        let claimed = self.db.scalar::<Value>(sql, &[]).await;
        Ok(self.found(sql, claimed.map(Some))?.unwrap_or_default())
    }

    pub(super) async fn revoked(&self, id: Uuid) -> Result<(), DbError> {
        let sql = "select private.connections_end_revocation($1)";
        self.db.query(sql, &[&id]).await.map(drop)
    }

    /// Reads an answer. What it has is not repeated: it may be a token.
    fn found<T: DeserializeOwned>(
        &self,
        sql: &str,
        answer: Result<Option<Value>, DbError>,
    ) -> Result<Option<T>, DbError> {
        answer?
            .map(serde_json::from_value)
            .transpose()
            .map_err(|_| DbError::Unexpected(format!("the answer to {sql}")))
    }
}

/// A secret with characters that cannot be stored is none of ours.
fn unstorable_is_unknown(answer: Result<Option<Value>, DbError>) -> Result<Option<Value>, DbError> {
    match answer {
        Err(error) if error.is_about_the_data() => Ok(None),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_what_the_database_says() {
        let read = |value: Value| Work::read(value).unwrap();
        assert!(matches!(read(json!({})), Work::Nothing));
        assert!(matches!(read(json!({"wait": 7})), Work::Wait(7)));
        for other in [
            json!({"token": 1}),
            json!({"wait": "7"}),
            json!({"waits": 7}),
            json!(7),
        ] {
            assert!(Work::read(other.clone()).is_none(), "{other}");
        }
        let work = read(json!({
            "token": Uuid::nil(), "generation": 3, "provider": "github", "refresh_token": "hidden"
        }));
        assert!(!format!("{work:?}").contains("hidden"));
        let Work::Refresh(refresh) = work else {
            panic!("{work:?}")
        };
        assert_eq!(refresh.refresh_token, Some(Secret::new("hidden")));
    }
}
