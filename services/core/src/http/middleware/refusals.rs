//! Requests that are refused are limited by the policies of the database (tier `external` of `kijko.rate_limit_policies`): an
//! address that gets too many refusals gets 429 instead.
//!
//! Only refusals are limited, and after the fact. A limit that another sender has used up must never lose a signed delivery of a
//! webhook, and only its signature identifies the sender: behind a proxy all senders may have one address. Reading and verifying a
//! body costs less than asking the database. When the database cannot be asked, the refusal stands.

use std::{collections::HashMap, time::Duration};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use crate::{
    db::{Db, DbError},
    error::Error,
    http::headers,
};

const ADMIT: &str = "select private.requests_admit_external($1, $2, $3)::text";
const FORWARDED_FOR: &str = "x-forwarded-for";
/// A client who has made a mistake does not wait longer for a database that is slow.
const TIMEOUT: Duration = Duration::from_secs(1);

/// An extension of a response: the request was accepted, and its status is another server's, or the database has counted it
/// against its caller. It counts as no refusal.
#[derive(Debug, Clone, Copy)]
pub struct Accepted;

/// What the database answers.
#[derive(Debug, Deserialize)]
struct Admission {
    code: Option<String>,
    details: Option<String>,
    headers: HashMap<String, String>,
}

pub(in crate::http) async fn limit(State(db): State<Db>, request: Request, next: Next) -> Response {
    // The database takes its rightmost address that is no trusted proxy.
    let forwarded_for = headers::joined(request.headers(), FORWARDED_FOR);
    let (method, path) = (
        request.method().to_string(),
        request.uri().path().to_owned(),
    );
    let response = next.run(request).await;
    let accepted = response.extensions().get::<Accepted>().is_some();
    if accepted || !response.status().is_client_error() {
        return response;
    }
    let asked = admit(&db, forwarded_for.as_deref(), &method, &path);
    match tokio::time::timeout(TIMEOUT, asked).await {
        Ok(Ok(admission)) => admission.refusal().map_or(response, Error::into_response),
        Ok(Err(error)) => {
            tracing::debug!(%error, "not limited");
            response
        }
        Err(_) => response,
    }
}

async fn admit(
    db: &Db,
    forwarded_for: Option<&str>,
    method: &str,
    path: &str,
) -> Result<Admission, DbError> {
    let text: String = db.scalar(ADMIT, &[&forwarded_for, &method, &path]).await?;
    serde_json::from_str(&text).map_err(|error| DbError::Unexpected(error.to_string()))
}

impl Admission {
    fn refusal(self) -> Option<Error> {
        match self.code?.as_str() {
            "rate_limited" => Some(Error::RateLimited {
                details: self.details,
                headers: self.headers.into_iter().collect(),
            }),
            code => Some(Error::Unavailable {
                cause: format!("the limiter answered {code}"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_code_refuses() {
        let admission = |text: &str| serde_json::from_str::<Admission>(text).unwrap().refusal();
        let code = |text: &str| admission(text).map(|error| error.code());
        assert_eq!(code(r#"{"code":null,"details":null,"headers":{}}"#), None);
        assert_eq!(
            code(r#"{"code":"rate_limited","details":"d","headers":{"RateLimit":"x"}}"#),
            Some("rate_limited")
        );
        assert_eq!(
            code(r#"{"code":"unavailable","details":null,"headers":{}}"#),
            Some("unavailable")
        );
    }
}
