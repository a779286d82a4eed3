//! The database functions of login that the sidecar calls; the only SQL of this module.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use kijko_core::{
    db::{Db, DbError},
    error::Error,
    http::headers::{joined, selected},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::oauth::{
    provider::Providers,
    revocations::{Due, Waiting},
};

/// What the database reads of a request.
const HEADERS: [&str; 6] = [
    "user-agent",
    "accept-language",
    "referer",
    "redirect_to",
    "x-forwarded-for",
    "x-supabase-api-version",
];

/// The functions.
#[derive(Debug, Clone)]
pub(super) struct Store {
    db: Db,
}

/// An answer as the database writes it.
#[derive(Deserialize)]
pub(super) struct Answer {
    pub status: u16,
    headers: Vec<Map<String, Value>>,
    #[serde(default)]
    pub body: Value,
}

impl Store {
    pub(super) fn new(db: Db) -> Self {
        Self { db }
    }

    /// One step of a request; what it did is committed.
    pub(super) async fn answer(
        &self,
        step: &str,
        headers: &HeaderMap,
        input: &Value,
    ) -> Result<Answer, Error> {
        let sql = "select auth_api.answer_external($1, $2, $3)";
        let answer: Result<Value, DbError> = self
            .db
            .scalar(sql, &[&step, &of_interest(headers), input])
            .await;
        let answer = match answer {
            Err(error) if error.is_about_the_data() => {
                return Err(Error::BadRequest(
                    "the request has characters that cannot be stored".to_owned(),
                ));
            }
            answer => answer?,
        };
        serde_json::from_value(answer).map_err(|error| Error::Internal {
            cause: format!("answer_external: {error}"),
        })
    }
}

impl Waiting for Store {
    const NAME: &'static str = "outside providers";

    /// Says also which of them are trusted with addresses.
    async fn register(&self, providers: &Providers) -> Result<(), DbError> {
        let names: Vec<&str> = providers.keys().map(String::as_str).collect();
        let verifying = providers.values().map(|provider| &provider.config);
        let verifying: Vec<&str> = verifying
            .filter(|config| config.verifying)
            .map(|config| config.name.as_str())
            .collect();
        let sql = "select auth_api.register_oauth_providers($1, $2)";
        self.db.query(sql, &[&names, &verifying]).await.map(drop)
    }

    async fn due(&self) -> Result<Vec<Due>, DbError> {
        let sql = "select auth_api.claim_revocations()";
        let claimed: Value = self.db.scalar(sql, &[]).await?;
        // What the answer has is not repeated: it may be a token.
        serde_json::from_value(claimed)
            .map_err(|_| DbError::Unexpected(format!("the answer to {sql}")))
    }

    async fn revoked(&self, id: Uuid) -> Result<(), DbError> {
        let sql = "select auth_api.end_revocation($1)";
        self.db.query(sql, &[&id]).await.map(drop)
    }
}

fn of_interest(headers: &HeaderMap) -> Value {
    let mut found = selected(headers, &HEADERS);
    // Login reads the token from a header that only a proxy can set; this server is behind the same proxy.
    if let Some(authorization) = joined(headers, "authorization") {
        found.insert("x-kijko-authorization".to_owned(), authorization.into());
    }
    found.into()
}

impl Answer {
    pub(super) fn is_ok(&self) -> bool {
        self.status == 200
    }

    /// The body's text of this name.
    pub(super) fn text(&self, name: &str) -> Result<&str, Error> {
        self.body[name].as_str().ok_or_else(|| Error::Internal {
            cause: format!("answer_external has no {name}"),
        })
    }

    pub(super) fn into_response(self) -> Response {
        let body = match &self.body {
            Value::Null => Body::empty(),
            body => Body::from(body.to_string()),
        };
        let mut response = Response::new(body);
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in self.headers.iter().flatten() {
            if let (Ok(name), Some(Ok(value))) = (
                name.parse::<HeaderName>(),
                value.as_str().map(HeaderValue::from_str),
            ) {
                response.headers_mut().append(name, value);
            }
        }
        if self.body.is_null() {
            response.headers_mut().remove(header::CONTENT_TYPE);
        }
        response
    }
}
