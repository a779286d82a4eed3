//! Who a token or an API key names, and what policies let them do: Postgres answers both.

use std::sync::Arc;

use kijko_core::{
    db::{Db, DbError},
    http::headers::selected,
};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    access::{AccessChanges, Moment},
    protocol::Sender,
};

/// A caller whose token or API key was verified.
#[derive(Debug)]
pub struct Caller {
    /// The token or key, to recognize the same one and to ask again.
    pub token: Box<str>,
    /// What policies see of the request.
    pub headers: Arc<Value>,
    /// The token's claims.
    pub claims: Value,
    /// Its role: anon, authenticated or service_role.
    pub role: Box<str>,
    /// When the token or the key's secret ends, in seconds since 1970.
    pub expires: Option<i64>,
    /// The user, or the owner of a personal key.
    pub user: Option<Uuid>,
    /// The session of the token.
    pub session: Option<Uuid>,
    /// The enrolment of the outside issuer whose token it is. Postgres verifies such a token each time.
    pub issuer: Option<Uuid>,
    /// The API key.
    pub api_key: Option<Uuid>,
    /// The caller's organizations when it was asked.
    pub organizations: Vec<Uuid>,
    /// The client's network: an IPv4 address, or the /64 of an IPv6 address.
    pub network: Option<Box<str>>,
    /// Changes of access that were known before Postgres was asked. Later ones may not be in its answer.
    pub known: Moment,
}

impl Caller {
    /// For whom its messages and joins are counted: the API key, the user, or the client's network.
    pub fn counted_as(&self) -> String {
        let id = self.api_key.or(self.user).map(|id| id.to_string());
        let network = || self.network.as_deref().map(str::to_owned);
        id.or_else(network).unwrap_or_default()
    }

    /// Whose its messages are; none for the operator.
    pub fn sender(&self) -> Option<Sender> {
        // All keys of a member are one sender.
        let user = self.user.map(|user| user.to_string());
        (!self.passes_policies()).then(|| Sender::of(&user.unwrap_or_else(|| self.counted_as())))
    }

    /// Whether policies do not hold for it.
    pub fn passes_policies(&self) -> bool {
        self.role.as_ref() == "service_role"
    }

    /// What a change of access can name: the user, the session, the issuer, the key and the organizations.
    pub fn subjects(&self) -> impl Iterator<Item = Uuid> {
        let own = [self.user, self.session, self.issuer, self.api_key];
        own.into_iter()
            .flatten()
            .chain(self.organizations.iter().copied())
    }

    /// The same, with the moment from which on changes of access matter.
    pub fn watched(&self) -> impl Iterator<Item = (Uuid, Moment)> {
        self.subjects().map(|subject| (subject, self.known))
    }

    /// Why a channel ends when `expires` has passed.
    pub fn expiry_reason(&self) -> &'static str {
        match self.api_key {
            Some(_) => "InvalidApiKey: the API key has expired",
            None => "InvalidJWTExpiration: Token has expired",
        }
    }
}

/// What a caller may do on a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Grants {
    /// Receive broadcasts.
    pub read_broadcast: bool,
    /// Receive presence.
    pub read_presence: bool,
    /// Send broadcasts.
    pub write_broadcast: bool,
    /// Be present.
    pub write_presence: bool,
}

impl Grants {
    /// Everything: public channels, and the service key.
    pub const ALL: Self = Self {
        read_broadcast: true,
        read_presence: true,
        write_broadcast: true,
        write_presence: true,
    };

    /// Whether the caller may join.
    pub fn may_join(self) -> bool {
        self.read_broadcast || self.read_presence
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizeError {
    /// The token or key is not valid; the text is `Code: why`.
    #[error("{0}")]
    NotIdentified(String),
    /// A policy raised an error.
    #[error("RlsPolicyError: a policy on realtime.messages failed: {0}")]
    Policy(String),
    /// The database does not answer.
    #[error("DatabaseUnavailable: the database does not answer; try again later")]
    Database(#[from] DbError),
}

/// Asks Postgres. Many sockets that join at once wait here for their turn, so that the reader of messages finds a connection.
#[derive(Debug, Clone)]
pub struct Authorizer {
    db: Db,
    changes: Arc<AccessChanges>,
    turns: Arc<Semaphore>,
}

#[derive(Deserialize)]
struct Identity {
    problem: Option<String>,
    #[serde(default)]
    role: String,
    #[serde(default)]
    claims: Value,
    expires: Option<f64>,
    session_id: Option<Value>,
    issuer_id: Option<Uuid>,
    user_id: Option<Uuid>,
    api_key_id: Option<Uuid>,
    #[serde(default)]
    org_ids: Vec<Uuid>,
    network: Option<Box<str>>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    ended: bool,
    #[serde(default)]
    read: Vec<String>,
    #[serde(default)]
    write: Vec<String>,
    problem: Option<String>,
}

/// Connections that joins leave to the other parts.
const SPARE_CONNECTIONS: usize = 2;

impl Authorizer {
    /// By this pool.
    pub fn new(db: Db, changes: Arc<AccessChanges>) -> Self {
        let turns = db.pool_use().max.saturating_sub(SPARE_CONNECTIONS).max(1);
        Self {
            db,
            changes,
            turns: Arc::new(Semaphore::new(turns)),
        }
    }

    /// Whom a token or an API key names. It must be valid now, and its session must not have ended.
    pub async fn identify(
        &self,
        token: &str,
        headers: Arc<Value>,
    ) -> Result<Arc<Caller>, AuthorizeError> {
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let problem = "InvalidJWTToken: a token has no blanks and control characters";
            return Err(AuthorizeError::NotIdentified(problem.to_owned()));
        }
        let _turn = self.turns.acquire().await;
        let known = self.changes.moment();
        let answer: Value = self
            .db
            .scalar(
                "select realtime_service.identify($1, $2)",
                &[&token, &*headers],
            )
            .await?;
        let identity: Identity = read(answer)?;
        if let Some(problem) = identity.problem {
            return Err(AuthorizeError::NotIdentified(problem));
        }
        if !matches!(
            &identity.role[..],
            "anon" | "authenticated" | "service_role"
        ) {
            return Err(AuthorizeError::NotIdentified(
                "InvalidJWTToken: the role of the token is not served".to_owned(),
            ));
        }
        let session = identity.session_id.as_ref().and_then(Value::as_str);
        Ok(Arc::new(Caller {
            token: token.into(),
            headers,
            claims: identity.claims,
            role: identity.role.into(),
            expires: identity.expires.map(|at| at as i64),
            user: identity.user_id,
            session: session.and_then(|id| id.parse().ok()),
            issuer: identity.issuer_id,
            api_key: identity.api_key_id,
            organizations: identity.org_ids,
            network: identity.network,
            known,
        }))
    }

    /// What a caller may do on a private channel.
    pub async fn authorize(&self, caller: &Caller, topic: &str) -> Result<Grants, AuthorizeError> {
        if caller.passes_policies() {
            return Ok(Grants::ALL);
        }
        // Postgres has no text with this character, so nobody sends to such a topic.
        if topic.contains('\0') {
            return Ok(Grants::default());
        }
        let _turn = self.turns.acquire().await;
        let issuer_token = caller.issuer.map(|_| &*caller.token);
        let answer: Value = self
            .db
            .scalar(
                "select realtime_service.authorize($1, $2, $3, $4, $5, $6)",
                &[
                    &&*caller.role,
                    &caller.claims,
                    &caller.api_key,
                    &issuer_token,
                    &*caller.headers,
                    &topic,
                ],
            )
            .await?;
        let answer: Answer = read(answer)?;
        if answer.ended {
            return Err(AuthorizeError::NotIdentified(
                "SessionEnded: the session, the API key or the token is no longer valid".to_owned(),
            ));
        }
        if let Some(problem) = answer.problem {
            return Err(AuthorizeError::Policy(problem));
        }
        let has = |list: &[String], extension: &str| list.iter().any(|name| name == extension);
        Ok(Grants {
            read_broadcast: has(&answer.read, "broadcast"),
            read_presence: has(&answer.read, "presence"),
            write_broadcast: has(&answer.write, "broadcast"),
            write_presence: has(&answer.write, "presence"),
        })
    }
}

fn read<T: for<'a> Deserialize<'a>>(answer: Value) -> Result<T, DbError> {
    serde_json::from_value(answer).map_err(|error| DbError::Unexpected(error.to_string()))
}

/// The header by which a request names an organization. Browsers' sockets send no headers, so a parameter of the query has its name.
pub const ORGANIZATION: &str = "x-org-id";

/// What Postgres sees of a request: no header that can hold a secret. The organization chooses among those that have enrolled the
/// issuer of a token, and policies do not see it.
pub fn visible_headers(headers: &axum::http::HeaderMap, organization: Option<&str>) -> Arc<Value> {
    let names = ["origin", "user-agent", "x-forwarded-for", ORGANIZATION];
    let mut visible = selected(headers, &names);
    if let Some(organization) = organization {
        visible.insert(ORGANIZATION.to_owned(), organization.into());
    }
    Arc::new(visible.into())
}
