//! What an event must be to be stored, and the only SQL of this module.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use crate::db::{Db, DbError, with_causes};

/// Asked for with each readiness probe and scrape.
const BACKLOG: &str = "select failed, given_up, oldest_failed_seconds, unlinked, unplanned from private.stripe_backlog()";
const INGEST: &str =
    "select status, duplicate, error_code from private.ingest_stripe_event($1::text::jsonb)";

/// A verified delivery that is an event; everything else in it is the database's business.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// Only looked at to tell an event from other JSON.
    #[serde(rename = "created")]
    _created: i64,
}

/// What the database did with it.
#[derive(Debug)]
pub(super) struct Ingested {
    /// `applied`, `failed` (kept and tried again) or `ignored`.
    pub status: String,
    /// It had been delivered before.
    pub duplicate: bool,
    /// SQLSTATE of the failure.
    pub error_code: Option<String>,
}

/// What waits for an operator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backlog {
    /// Events that could not be applied.
    pub failed: i64,
    /// Of these, those that are not tried again by themselves.
    pub given_up: i64,
    /// How long the oldest of them has waited.
    pub oldest_failed_seconds: f64,
    /// Running subscriptions of no known organization.
    pub unlinked: i64,
    /// Running subscriptions whose price names no plan.
    pub unplanned: i64,
}

impl Event {
    pub(super) fn parse(body: &str) -> Option<Self> {
        serde_json::from_str::<Self>(body).ok().filter(|event| {
            event.id.strip_prefix("evt_").is_some_and(|rest| {
                (1..=250).contains(&rest.len())
                    && rest
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            }) && (1..=200).contains(&event.kind.chars().count())
        })
    }
}

/// Stores the event and applies it; once this returns it is committed.
pub(super) async fn ingest(db: &Db, body: &str) -> Result<Ingested, DbError> {
    let rows = db.query(INGEST, &[&storable(body)]).await?;
    let [row] = rows.as_slice() else {
        return Err(DbError::Unexpected(format!(
            "{} rows instead of one",
            rows.len()
        )));
    };
    let read = || {
        Ok(Ingested {
            status: row.try_get(0)?,
            duplicate: row.try_get(1)?,
            error_code: row.try_get(2)?,
        })
    };
    read().map_err(|error: tokio_postgres::Error| DbError::Unexpected(with_causes(&error)))
}

/// What waits for an operator.
pub async fn backlog(db: &Db) -> Result<Backlog, DbError> {
    let rows = db.query(BACKLOG, &[]).await?;
    let [row] = rows.as_slice() else {
        return Err(DbError::Unexpected(format!(
            "{} rows instead of one",
            rows.len()
        )));
    };
    let read = || {
        Ok(Backlog {
            failed: row.try_get(0)?,
            given_up: row.try_get(1)?,
            oldest_failed_seconds: row.try_get(2)?,
            unlinked: row.try_get(3)?,
            unplanned: row.try_get(4)?,
        })
    };
    read().map_err(|error: tokio_postgres::Error| DbError::Unexpected(with_causes(&error)))
}

/// Postgres stores no NUL character, and a customer's name must not be a reason to lose an event: U+FFFD instead.
fn storable(body: &str) -> Cow<'_, str> {
    if !body.contains("\\u0000") {
        return Cow::Borrowed(body);
    }
    match serde_json::from_str::<Value>(body) {
        Ok(mut value) => {
            replace_nul(&mut value);
            Cow::Owned(value.to_string())
        }
        Err(_) => Cow::Borrowed(body),
    }
}

fn replace_nul(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('\0') => *text = text.replace('\0', "\u{fffd}"),
        Value::Array(items) => items.iter_mut().for_each(replace_nul),
        Value::Object(fields) => {
            let old = std::mem::take(fields);
            fields.extend(old.into_iter().map(|(name, mut value)| {
                replace_nul(&mut value);
                (name.replace('\0', "\u{fffd}"), value)
            }));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_id_type_and_created() {
        let event = Event::parse(r#"{"id":"evt_1","type":"a.b","created":1,"data":{}}"#).unwrap();
        assert_eq!((event.id.as_str(), event.kind.as_str()), ("evt_1", "a.b"));
        for bad in [
            "",
            "null",
            "[]",
            "{",
            r#"{"id":"evt_1","type":"a"}"#,
            r#"{"id":1,"type":"a","created":1}"#,
            r#"{"id":"cus_1","type":"a","created":1}"#,
            r#"{"id":"evt_","type":"a","created":1}"#,
            r#"{"id":"evt_1","type":"","created":1}"#,
            r#"{"id":"evt_1","type":"a","created":"1"}"#,
            r#"{"id":"evt_';--","type":"a","created":1}"#,
        ] {
            assert!(Event::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn nul_is_replaced_only_where_it_is_meant() {
        assert_eq!(storable(r#"{"a":"b"}"#), r#"{"a":"b"}"#);
        assert_eq!(
            storable(r#"{"a":["x\u0000y"]}"#),
            "{\"a\":[\"x\u{fffd}y\"]}"
        );
        assert_eq!(storable(r#"{"a":"x\\u0000"}"#), r#"{"a":"x\\u0000"}"#);
        assert_eq!(storable(r#"{"a\u0000":1}"#), "{\"a\u{fffd}\":1}");
    }
}
