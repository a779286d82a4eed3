//! The sidecar's second login at the database, by which it asks as a caller without PostgREST. The same functions decide that decide
//! there: a request is admitted, and one function called as the caller, in one transaction. What they refuse has the same status, body and
//! headers.

use std::time::SystemTime;

use axum::http::HeaderMap;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use kijko_core::{
    config::Reader,
    db::{DatabaseConfig, Db, DbError, REFUSAL},
    error::Error,
    http::headers::{bearer, selected},
    telemetry::traces::{self, span::Attributes},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::{
    answer::{NotGranted, judged},
    functions::{Call, function},
    headers::{IDENTITY, limits},
};

/// Becomes the caller, and admits their request.
const ENTER: &str = "select private.requests_enter($1)";

/// The database, asked without PostgREST.
#[derive(Debug, Clone)]
pub(crate) struct Direct {
    db: Db,
}

#[derive(Deserialize)]
struct Answer<T> {
    answer: T,
    /// As PostgREST gets them: objects of one header.
    headers: Option<Vec<Map<String, Value>>>,
}

/// What `kijko.fail()` says beside the body.
#[derive(Default, Deserialize)]
struct Refusal {
    status: u16,
    #[serde(default)]
    headers: Map<String, Value>,
}

impl Direct {
    /// Reads `KIJKO_GATEWAY_DATABASE_URL`. None: it is not set, or wrong.
    pub(crate) fn config(env: &mut Reader<'_>) -> Option<DatabaseConfig> {
        DatabaseConfig::optional(env, "KIJKO_GATEWAY_DATABASE_URL", "KIJKO_GATEWAY_POOL_SIZE")
    }

    /// With connections of its own, so that no domain waits for those of another.
    pub(crate) fn at(config: Option<&DatabaseConfig>) -> Result<Option<Self>, DbError> {
        let direct = |config| Db::new(config).map(|db| Self { db });
        config.map(direct).transpose()
    }

    /// Calls a function as the sender of these headers. None: PostgREST is to be asked. Then the function is not asked in this way, or not
    /// with these arguments, or the database did not sign the sender's token.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        name: &str,
        headers: &HeaderMap,
        own: &HeaderMap,
        arguments: &Value,
    ) -> Result<Option<(T, HeaderMap)>, NotGranted> {
        let Some(function) = function(name, arguments) else {
            return Ok(None);
        };
        let token = bearer(headers);
        let path = format!("/rpc/{name}");
        let request = json!({"token": token, "path": path, "headers": visible(headers, own)});
        let start = SystemTime::now();
        let answer = match function.call {
            Call::Entered(sql) => {
                self.db
                    .query_admitted((ENTER, &[&request]), (sql, &[arguments]))
                    .await
            }
            Call::Entering(sql) => self
                .db
                .query_unnamed(sql, &[&request, arguments])
                .await
                .map(Some),
        };
        let failed = matches!(&answer, Err(error) if !is_refusal(error)).then_some("unavailable");
        let mut attributes = Attributes::default();
        attributes.set("peer.service", "postgres");
        traces::record_child(format!("postgres {name}"), start, attributes, failed);
        let rows = answer.map_err(|error| not_granted(error, token.as_deref()))?;
        let row = rows.and_then(|rows| rows.into_iter().next());
        let answer = row.map(|row| row.try_get::<_, Option<Value>>(0));
        let answer = answer.and_then(Result::transpose);
        answer.map(|answer| read(name, answer)).transpose()
    }
}

/// What the database may see of the request: who calls, and what we say ourselves.
fn visible(headers: &HeaderMap, own: &HeaderMap) -> Map<String, Value> {
    let mut visible = selected(headers, &IDENTITY);
    visible.remove("authorization");
    let own_names: Vec<_> = own.keys().map(|name| name.as_str()).collect();
    visible.extend(selected(own, &own_names));
    visible
}

fn read<T: DeserializeOwned, E: std::fmt::Display>(
    name: &str,
    answer: Result<Value, E>,
) -> Result<(T, HeaderMap), NotGranted> {
    let unexpected = |error: String| Error::Internal {
        cause: format!("{name} answered something unexpected: {error}"),
    };
    let answer = answer.map_err(|error| unexpected(error.to_string()))?;
    let answer: Answer<T> =
        serde_json::from_value(answer).map_err(|error| unexpected(error.to_string()))?;
    let headers = answer.headers.unwrap_or_default();
    Ok((answer.answer, limits(headers.iter().flatten())))
}

fn is_refusal(error: &DbError) -> bool {
    matches!(error, DbError::Refused { code, .. } if code == REFUSAL)
}

/// What the API would answer to a request with this token.
fn not_granted(error: DbError, token: Option<&str>) -> NotGranted {
    let DbError::Refused {
        code,
        message,
        detail,
        hint,
        ..
    } = &error
    else {
        // PostgREST without a connection answers 503, too. Why is not for the caller, also when our login is wrong.
        if !error.is_transient() {
            tracing::error!(%error, "the database cannot be asked without PostgREST");
        }
        let cause = error.to_string();
        return NotGranted::Failed(Error::Unavailable { cause });
    };
    let (status, body, headers) = match code.as_str() {
        REFUSAL => {
            let detail = detail.as_deref().unwrap_or_default();
            let refusal: Refusal = serde_json::from_str(detail).unwrap_or_default();
            (refusal.status, message.clone(), limits(&refusal.headers))
        }
        code => {
            let body = json!({"code": code, "message": message, "details": detail, "hint": hint});
            let status = status(code, token.is_some_and(is_of_user));
            (status, body.to_string(), HeaderMap::new())
        }
    };
    match judged(status, body.into_bytes(), headers) {
        Err(error) => error,
        Ok(_) => NotGranted::Failed(error.into()),
    }
}

/// Whether its role is not that of a request without a token, as the anon key's is. Read only of tokens that the database has verified.
fn is_of_user(token: &str) -> bool {
    let claims = token.split('.').nth(1);
    let claims = claims.and_then(|claims| BASE64_URL_SAFE_NO_PAD.decode(claims).ok());
    let claims = claims.and_then(|claims| serde_json::from_slice::<Value>(&claims).ok());
    claims.is_some_and(|claims| claims["role"] != "anon")
}

/// Part of PostgREST's table of statuses: errors that callers can cause. PostgREST answers some others with 400, 404 or 413 (no such
/// column, no such function, a program limit). Callers choose arguments and not the statement, so these are faults of ours here: 503,
/// and the reason is in the log.
fn status(code: &str, is_of_user: bool) -> u16 {
    match code {
        "42501" if is_of_user => 403,
        "42501" => 401,
        "25006" => 405,
        "23503" | "23505" => 409,
        "P0001" => 400,
        _ => match code.get(..2) {
            Some("0A" | "22" | "23" | "44") => 400,
            Some("0L" | "0P" | "28") => 403,
            _ => 500,
        },
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::to_bytes, response::IntoResponse};

    use super::*;

    fn error(code: &str, message: &str, detail: Option<&str>) -> DbError {
        DbError::Refused {
            code: code.to_owned(),
            message: message.to_owned(),
            detail: detail.map(str::to_owned),
            hint: Some("h".to_owned()),
            transient: false,
        }
    }

    fn token(role: &str) -> String {
        let claims = json!({"role": role}).to_string();
        format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims))
    }

    #[tokio::test]
    async fn a_refusal_has_the_status_the_body_and_the_limits_of_the_database() {
        let body = r#"{"code": "rate_limited", "message": "m", "details": "d", "hint": null}"#;
        let detail = r#"{"status": 429, "headers": {"Retry-After": "7", "X-RateLimit-Resource": "requests", "Set-Cookie": "a=b"}}"#;
        let refused = not_granted(error(REFUSAL, body, Some(detail)), None).into_response();
        assert_eq!(refused.status(), 429);
        assert_eq!(refused.headers()["retry-after"], "7");
        assert_eq!(refused.headers()["x-ratelimit-resource"], "requests");
        assert!(!refused.headers().contains_key("set-cookie"));
        let said = to_bytes(refused.into_body(), 1_000).await.unwrap();
        assert_eq!(said, body.as_bytes());
        // Ours: the database says what is missing.
        let body = r#"{"code": "unavailable", "message": "m"}"#;
        let detail = r#"{"status": 503, "headers": {}}"#;
        let missing = not_granted(error(REFUSAL, body, Some(detail)), None);
        assert!(matches!(missing, NotGranted::Refused(it) if it.status() == 503));
    }

    #[test]
    fn an_error_of_postgres_is_the_callers_or_ours_as_postgrest_has_it() {
        let (user, anonymous) = (token("authenticated"), token("anon"));
        let (user, anonymous) = (Some(user.as_str()), Some(anonymous.as_str()));
        for (code, token, wanted) in [
            ("42501", user, Some(403)),
            ("42501", anonymous, Some(401)),
            ("42501", None, Some(401)),
            ("22003", user, Some(400)),
            ("22P05", user, Some(400)),
            ("23505", user, Some(409)),
            ("25006", user, Some(405)),
            ("57014", user, None),
            ("42883", user, None),
            ("XX000", user, None),
            ("55P03", user, None),
        ] {
            let status = match not_granted(error(code, "m", None), token) {
                NotGranted::Refused(refusal) => Some(refusal.status().as_u16()),
                NotGranted::Failed(Error::Unavailable { .. }) => None,
                NotGranted::Failed(error) => panic!("{code}: {error}"),
            };
            assert_eq!(status, wanted, "{code}");
        }
        // A refusal that says no status is no refusal.
        let odd = not_granted(error(REFUSAL, "{}", Some("odd")), user);
        assert!(matches!(odd, NotGranted::Failed(_)));
    }

    #[tokio::test]
    async fn an_error_of_postgres_has_its_details_and_its_hint() {
        let refused = not_granted(error("23505", "m", Some("d")), None).into_response();
        let body = to_bytes(refused.into_body(), 1_000).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let wanted = json!({"code": "23505", "message": "m", "details": "d", "hint": "h"});
        assert_eq!(body, wanted);
    }

    #[tokio::test]
    async fn a_login_that_is_refused_is_503_without_a_reason() {
        let text = "no connection: the database refused: 28P01 password authentication failed";
        let failed = not_granted(DbError::Unexpected(text.to_owned()), None);
        let NotGranted::Failed(error) = &failed else {
            panic!("{failed:?}");
        };
        assert!(error.cause().is_some_and(|cause| cause.contains(text)));
        let answer = failed.into_response();
        assert_eq!(answer.status(), 503);
        let body = to_bytes(answer.into_body(), 1_000).await.unwrap();
        assert!(!String::from_utf8_lossy(&body).contains("28P01"));
    }

    #[test]
    fn an_answer_brings_what_is_left_of_limits() {
        let answer = json!({"answer": 7, "headers": [{"X-RateLimit-Remaining": "6"}, {"Retry-After": "1"}, {"X-Other": "x"}]});
        let (answer, headers): (i32, _) = read("f", Ok::<_, String>(answer)).unwrap();
        assert_eq!((answer, headers.len()), (7, 2));
        assert_eq!(headers["x-ratelimit-remaining"], "6");
        assert!(read::<i32, _>("f", Ok::<_, String>(json!({}))).is_err());
    }

    #[test]
    fn the_database_sees_who_calls_and_what_we_say() {
        let (mut headers, mut own) = (HeaderMap::new(), HeaderMap::new());
        for name in ["authorization", "x-api-key", "x-kijko-gateway", "x-other"] {
            headers.insert(name, "a".parse().unwrap());
        }
        own.insert("x-kijko-call", "b".parse().unwrap());
        let wanted = json!({"x-api-key": "a", "x-kijko-call": "b"});
        assert_eq!(Value::from(visible(&headers, &own)), wanted);
    }
}
