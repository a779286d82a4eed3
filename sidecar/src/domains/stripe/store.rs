//! The shape that an event must have to be stored, and the only SQL of this domain.

use kijko_core::db::{Db, DbError};
use serde::{Deserialize, Serialize};

/// Asked for with each readiness probe and scrape.
const BACKLOG: &str = "select failed, given_up, oldest_failed_seconds, unlinked, unplanned from private.stripe_backlog()";
const INGEST: &str =
    "select status, duplicate, error_code from private.stripe_ingest_event($1::text::jsonb)";
const INGEST_ALL: &str = "select status, duplicate, error_code from private.stripe_ingest_events($1::text[]::jsonb[]) order by place";

/// A verified delivery that is an event. The database reads the rest of it.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    object: String,
    created: Created,
}

/// Read only to distinguish an event from other JSON.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Created {
    Seconds(#[allow(dead_code, reason = "its shape is what counts")] i64),
    /// As thin events have it: `2026-09-30T12:00:00.000Z`.
    Text(#[allow(dead_code, reason = "its shape is what counts")] String),
}

/// `object` of an event that names its object instead of including it.
const THIN: &str = "v2.core.event";

/// The result of storing an event.
#[derive(Debug)]
pub(super) struct Ingested {
    /// `applied`, `failed` (kept and tried again) or `ignored`.
    pub status: String,
    /// It had been delivered before.
    pub duplicate: bool,
    /// SQLSTATE of the failure.
    pub error_code: Option<String>,
}

/// Events and subscriptions that wait for an operator.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Backlog {
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
                && (matches!(event.created, Created::Seconds(_)) || event.object == THIN)
        })
    }
}

/// Stores the event and applies it; once this returns it is committed.
pub(super) async fn ingest(db: &Db, body: &str) -> Result<Ingested, DbError> {
    db.one(INGEST, &[&body], |row| {
        Ok(Ingested {
            status: row.try_get(0)?,
            duplicate: row.try_get(1)?,
            error_code: row.try_get(2)?,
        })
    })
    .await
}

/// Stores several events and applies each, in one transaction. An error is about all of them: none is stored.
pub(super) async fn ingest_all(db: &Db, bodies: &[&str]) -> Result<Vec<Ingested>, DbError> {
    db.all(INGEST_ALL, &[&bodies], |row| {
        Ok(Ingested {
            status: row.try_get(0)?,
            duplicate: row.try_get(1)?,
            error_code: row.try_get(2)?,
        })
    })
    .await
}

/// Events and subscriptions that wait for an operator.
pub(super) async fn backlog(db: &Db) -> Result<Backlog, DbError> {
    db.one(BACKLOG, &[], |row| {
        Ok(Backlog {
            failed: row.try_get(0)?,
            given_up: row.try_get(1)?,
            oldest_failed_seconds: row.try_get(2)?,
            unlinked: row.try_get(3)?,
            unplanned: row.try_get(4)?,
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_id_type_and_created() {
        let event = Event::parse(r#"{"id":"evt_1","type":"a.b","created":1,"data":{}}"#).unwrap();
        assert_eq!((event.id.as_str(), event.kind.as_str()), ("evt_1", "a.b"));
        let thin = Event::parse(
            r#"{"id":"evt_1","object":"v2.core.event","type":"a.b","created":"2026-09-30T12:00:00.000Z"}"#,
        );
        assert_eq!(thin.unwrap().id, "evt_1");
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
            r#"{"id":"evt_1","object":"event","type":"a","created":"2026-09-30T12:00:00.000Z"}"#,
            r#"{"id":"evt_1","object":"v2.core.event","type":"a"}"#,
            r#"{"id":"evt_';--","type":"a","created":1}"#,
        ] {
            assert!(Event::parse(bad).is_none(), "{bad}");
        }
    }
}
