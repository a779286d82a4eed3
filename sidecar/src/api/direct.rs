//! The sidecar's second login at the database, by which it asks as a caller without PostgREST. The same functions decide that decide
//! there: a request is admitted, and one function called as the caller, in one transaction. What they refuse has the same status, body and
//! headers.

use std::time::SystemTime;

use axum::http::HeaderMap;
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
    functions::function,
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
        let has_token = token.is_some();
        let path = format!("/rpc/{name}");
        let request = json!({"token": token, "path": path, "headers": visible(headers, own)});
        let start = SystemTime::now();
        let answer = self
            .db
            .query_admitted((ENTER, &[&request]), (function.sql, &[arguments]))
            .await;
        let failed = matches!(&answer, Err(error) if !is_refusal(error)).then_some("unavailable");
        let mut attributes = Attributes::default();
        attributes.set("peer.service", "postgres");
        traces::record_child(format!("postgres {name}"), start, attributes, failed);
        let rows = answer.map_err(|error| not_granted(error, has_token))?;
        let row = rows.and_then(|rows| rows.into_iter().next());
        row.map(|row| read(name, row.try_get::<_, Value>(0)))
            .transpose()
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

/// What the API would answer.
fn not_granted(error: DbError, has_token: bool) -> NotGranted {
    let DbError::Refused {
        code,
        message,
        detail,
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
            let body = json!({"code": code, "message": message, "details": null, "hint": null});
            (status(code, has_token), body.to_string(), HeaderMap::new())
        }
    };
    match judged(status, body.into_bytes(), headers) {
        Err(error) => error,
        Ok(_) => NotGranted::Failed(error.into()),
    }
}

/// PostgREST's status for an error of Postgres.
fn status(code: &str, has_token: bool) -> u16 {
    match code {
        "42501" if has_token => 403,
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
            transient: false,
        }
    }

    #[tokio::test]
    async fn a_refusal_has_the_status_the_body_and_the_limits_of_the_database() {
        let body = r#"{"code": "rate_limited", "message": "m", "details": "d", "hint": null}"#;
        let detail = r#"{"status": 429, "headers": {"Retry-After": "7", "X-RateLimit-Resource": "requests", "Set-Cookie": "a=b"}}"#;
        let refused = not_granted(error(REFUSAL, body, Some(detail)), true).into_response();
        assert_eq!(refused.status(), 429);
        assert_eq!(refused.headers()["retry-after"], "7");
        assert_eq!(refused.headers()["x-ratelimit-resource"], "requests");
        assert!(!refused.headers().contains_key("set-cookie"));
        let said = to_bytes(refused.into_body(), 1_000).await.unwrap();
        assert_eq!(said, body.as_bytes());
        // Ours: the database says what is missing.
        let body = r#"{"code": "unavailable", "message": "m"}"#;
        let detail = r#"{"status": 503, "headers": {}}"#;
        let missing = not_granted(error(REFUSAL, body, Some(detail)), true);
        assert!(matches!(missing, NotGranted::Refused(it) if it.status() == 503));
    }

    #[test]
    fn an_error_of_postgres_is_the_callers_or_ours_as_postgrest_has_it() {
        for (code, has_token, wanted) in [
            ("42501", true, Some(403)),
            ("42501", false, Some(401)),
            ("22003", true, Some(400)),
            ("22P05", true, Some(400)),
            ("23505", true, Some(409)),
            ("25006", true, Some(405)),
            ("57014", true, None),
            ("42883", true, None),
            ("XX000", true, None),
            ("55P03", true, None),
        ] {
            let status = match not_granted(error(code, "m", None), has_token) {
                NotGranted::Refused(refusal) => Some(refusal.status().as_u16()),
                NotGranted::Failed(Error::Unavailable { .. }) => None,
                NotGranted::Failed(error) => panic!("{code}: {error}"),
            };
            assert_eq!(status, wanted, "{code}");
        }
        // A refusal that says no status is no refusal.
        let odd = not_granted(error(REFUSAL, "{}", Some("odd")), true);
        assert!(matches!(odd, NotGranted::Failed(_)));
    }

    #[tokio::test]
    async fn a_login_that_is_refused_is_503_without_a_reason() {
        let text = "no connection: the database refused: 28P01 password authentication failed";
        let failed = not_granted(DbError::Unexpected(text.to_owned()), true);
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
