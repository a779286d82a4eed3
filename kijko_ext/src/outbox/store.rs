//! What the worker reads and writes. Locked requests are passed over and tried again: nobody's transaction makes it wait.
//!
//! Each statement is planned once, perhaps for a table that was analyzed while it was empty, and must be a good one for a million
//! rows. So requests are found by `id = any(array)` or in a lateral subquery, which only the primary key serves. For a join by id
//! the planner may read the whole index; and a bound must not be volatile, or the index is read beyond it.

use std::cmp::Reverse;
use std::time::Duration;

use pgrx::pg_sys;
use serde_json::{Value as Json, json};

use super::outcome::{Id, Outcome};
use super::retry::Next;
use super::schedule::Lane;
use super::unread::Position;
use crate::clock;
use crate::pg::query::{Row, Statement, find_table};
use crate::pg::value::Value;
use crate::worker::extension_lock;

/// Keys that one sweep hands on.
const MAX_KEYS: usize = 1_000;

thread_local! {
    /// Lanes with pending requests, by a loose scan: one probe of the index each.
    static LANES: Statement = const { Statement::new(
    "with recursive lane as (
       (select r.origin, r.org_id, r.priority, r.run_at from kijko.http_requests as r
        where r.state = 'pending' order by r.origin, r.org_id, r.priority, r.run_at limit 1)
       union all
       select next.* from lane as l cross join lateral (
         select r.origin, r.org_id, r.priority, r.run_at from kijko.http_requests as r
         where r.state = 'pending' and (r.origin, r.org_id, r.priority) > (l.origin, l.org_id, l.priority)
         order by r.origin, r.org_id, r.priority, r.run_at limit 1) as next
     )
     select origin, org_id, priority::bigint, run_at from lane",
    &[],
    ) };

    /// Between a place in the lane and now, both given: then the index is read from the one to the other. `clock_timestamp()` would
    /// be asked of each request, also of all those that are due later.
    static DUE: Statement = const { Statement::new(
    "select r.id, r.run_at, r.seq from kijko.http_requests as r
     where r.state = 'pending' and r.origin = $1 and r.org_id = $2 and r.priority = $3::smallint
       and (r.run_at, r.seq) > ($4, $5) and r.run_at <= $6
     order by r.run_at, r.seq limit $7",
    &[
        pg_sys::TEXTOID,
        pg_sys::UUIDOID,
        pg_sys::INT8OID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::INT8OID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::INT8OID,
    ],
    ) };

    static DUE_OF: Statement = const { Statement::new(
    "with asked as materialized (
       select r.origin, r.org_id, r.priority, r.run_at, r.seq, r.state
       from kijko.http_requests as r where r.id = any(string_to_array($1, ',')::uuid[])
     )
     select origin, org_id, priority::bigint, run_at, seq from asked where state = 'pending'",
    &[pg_sys::TEXTOID],
    ) };

    /// The rows are looked up by id first. Otherwise the planner takes the index of pending requests, which seems nearly empty if the
    /// table was analyzed while idle.
    static REQUESTS: Statement = const { Statement::new(
    "with asked as materialized (
       select r.id, r.attempts, r.max_attempts, r.not_after, r.timeout_ms, r.method, r.url, r.headers, r.body, r.signing, r.secret_names, r.org_id,
         r.state, r.run_at
       from kijko.http_requests as r where r.id = any(string_to_array($1, ',')::uuid[])
     )
     select r.id, r.attempts::bigint, r.max_attempts::bigint, r.timeout_ms::bigint, r.method, r.url, r.headers::text,
       r.body, r.signing::text,
       (select jsonb_object_agg(s.name, jsonb_build_object(
         'sealed', s.sealed, 'context', kijko.http_secret_context(s.org_id, s.name)))::text from kijko.http_secrets as s
        where r.secret_names <> '{}' and s.org_id = r.org_id and s.name = any(r.secret_names)),
       (r.not_after < clock_timestamp())::integer::bigint
     from asked as r
     where r.state = 'pending' and r.run_at <= clock_timestamp()",
    &[pg_sys::TEXTOID],
    ) };

    static RECORD: Statement = const { Statement::new(
    "with result as materialized (
       select * from jsonb_to_recordset($1::jsonb) as r (
         id uuid, attempt integer, started_at double precision, duration_ms integer, status integer, headers jsonb, body text,
         truncated boolean, state text, wait_ms bigint, error_code text, error text)
     ), locked as materialized (
       select r.*, q.id is not null as is_locked, q.org_id, q.key, q.state as former
       from result as r left join lateral (
         select o.id, o.org_id, o.key, o.state from kijko.http_requests as o where o.id = r.id for update skip locked) as q on true
     ), attempt as (
       insert into kijko.http_attempts (request_id, attempt, started_at, duration_ms, status, headers, body, truncated, error_code, error)
       select l.id, l.attempt, to_timestamp(l.started_at), l.duration_ms, l.status, l.headers, decode(l.body, 'base64'), l.truncated,
         l.error_code, l.error
       from locked as l where l.is_locked
       on conflict do nothing
     ), changed as (
       update kijko.http_requests as q
       set attempts = greatest(q.attempts, l.attempt),
         state = case when l.former = 'pending' then l.state else q.state end,
         error_code = case when l.former = 'pending' then l.error_code else q.error_code end,
         run_at = case when l.former = 'pending' and l.state = 'pending'
           then clock_timestamp() + l.wait_ms * interval '1 millisecond' else q.run_at end,
         ended_at = case when l.former = 'pending' and l.state <> 'pending' then clock_timestamp() else q.ended_at end
       from locked as l
       where q.id = any(array(select o.id from locked as o where o.is_locked)) and q.id = l.id
     )
     select l.id, l.is_locked or coalesce((select false from kijko.http_requests as q where q.id = l.id), true), l.org_id,
       case when l.state <> 'pending' or l.former <> 'pending' then l.key end
     from locked as l",
    &[pg_sys::TEXTOID],
    ) };

    /// Lets the first open request of each key go, if it waits. Returns the keys that are done with: all but those whose first
    /// request is locked; and the requests that may go.
    static HAND_ON: Statement = const { Statement::new(
    "with wanted as materialized (
       select distinct w.org_id, w.key from jsonb_to_recordset($1::jsonb) as w (org_id uuid, key text)
     ), head as materialized (
       select w.org_id, w.key, h.id, h.state from wanted as w cross join lateral (
         select r.id, r.state from kijko.http_requests as r
         where r.org_id = w.org_id and r.key = w.key and r.state in ('waiting', 'pending')
         order by r.seq limit 1) as h
     ), locked as materialized (
       select q.id from head as h cross join lateral (
         select o.id from kijko.http_requests as o where o.id = h.id and o.state = 'waiting' for update skip locked) as q
       where h.state = 'waiting'
     ), changed as (
       update kijko.http_requests as q set state = 'pending' where q.id = any(array(select l.id from locked as l))
     )
     select w.org_id, w.key, l.id from wanted as w
     left join head as h on h.org_id = w.org_id and h.key = w.key
     left join locked as l on l.id = h.id
     where h.id is null or h.state = 'pending' or l.id is not null",
    &[pg_sys::TEXTOID],
    ) };

    /// Keys whose first open request waits for nothing: the one before it was cancelled, or a crash came between.
    static STRANDED: Statement = const { Statement::new(
    "with recursive head as (
       (select r.org_id, r.key, r.state from kijko.http_requests as r
        where r.key is not null and r.state in ('waiting', 'pending') order by r.org_id, r.key, r.seq limit 1)
       union all
       select next.* from head as h cross join lateral (
         select r.org_id, r.key, r.state from kijko.http_requests as r
         where r.key is not null and r.state in ('waiting', 'pending') and (r.org_id, r.key) > (h.org_id, h.key)
         order by r.org_id, r.key, r.seq limit 1) as next
     )
     select org_id, key from head where state = 'waiting' limit $1",
    &[pg_sys::INT8OID],
    ) };

    static PURGE: Statement = const { Statement::new(
    "delete from kijko.http_requests as q where q.id = any(array(
       select r.id from kijko.http_requests as r
       where r.ended_at < $1
       order by r.ended_at limit 1000 for update skip locked))",
    &[pg_sys::TIMESTAMPTZOID],
    ) };
}

/// The requests of an organization that go one after the other.
pub type Key = (Id, String);

/// A lane, and where something in it is pending.
pub struct Due {
    pub lane: Lane,
    pub position: Position,
}

/// What is sent. Each secret is sealed, with the context that it was sealed in.
pub struct Request {
    pub id: Id,
    pub attempts: i32,
    pub max_attempts: i32,
    pub timeout: Duration,
    pub method: String,
    pub url: String,
    pub headers: Json,
    pub body: Option<String>,
    pub signing: Option<Json>,
    pub secrets: Json,
    /// Whether its time is over.
    pub is_expired: bool,
}

/// An outcome with what follows from it.
pub struct Verdict {
    pub outcome: Outcome,
    pub next: Next,
}

/// Whether the extension is installed in this database, for the rest of the transaction.
pub fn is_installed() -> bool {
    extension_lock::is_installed() && find_table(c"http_requests").is_some()
}

/// Each lane, and before its first request.
pub fn lanes() -> Vec<Due> {
    let lane = |row: &Row| {
        Some(Due {
            lane: lane(row)?,
            position: Position::before(row.integer(4)?),
        })
    };
    LANES.with(|statement| statement.read(&[], |rows| rows.iter().filter_map(lane).collect()))
}

fn lane(row: &Row) -> Option<Lane> {
    Some(Lane {
        priority: Reverse(row.integer(3)? as i32),
        origin: row.text(1)?.into(),
        org: row.uuid(2)?,
    })
}

/// Before each of these requests, if it is pending.
pub fn due_of(ids: &[Id]) -> Vec<Due> {
    let due = |row: &Row| {
        Some(Due {
            lane: lane(row)?,
            position: Position {
                run_at: row.integer(4)?,
                seq: row.integer(5)? - 1,
            },
        })
    };
    let ids = list(ids);
    DUE_OF.with(|statement| {
        statement.read(&[Value::from(&*ids)], |rows| {
            rows.iter().filter_map(due).collect()
        })
    })
}

/// What is due in a lane behind a place, with where it is.
pub fn due(lane: &Lane, after: Position, present: i64, limit: usize) -> Vec<(Id, Position)> {
    let values = [
        Value::from(&*lane.origin),
        Value::from(&lane.org),
        Value::from(lane.priority.0),
        Value::from(after.run_at),
        Value::from(after.seq),
        Value::from(present),
        Value::from(limit as i64),
    ];
    let due = |row: &Row| {
        let position = Position {
            run_at: row.integer(2)?,
            seq: row.integer(3)?,
        };
        Some((row.uuid(1)?, position))
    };
    DUE.with(|statement| statement.read(&values, |rows| rows.iter().filter_map(due).collect()))
}

/// Those that are still pending and due.
pub fn requests(ids: &[Id]) -> Vec<Request> {
    let ids = list(ids);
    REQUESTS.with(|statement| {
        statement.read(&[Value::from(&*ids)], |rows| {
            rows.iter().filter_map(request).collect()
        })
    })
}

fn request(row: &Row) -> Option<Request> {
    let json = |column| Some(serde_json::from_str(&row.text(column)?).unwrap_or_default());
    Some(Request {
        id: row.uuid(1)?,
        attempts: row.integer(2)? as i32,
        max_attempts: row.integer(3)? as i32,
        timeout: Duration::from_millis(row.integer(4)?.unsigned_abs()),
        method: row.text(5)?,
        url: row.text(6)?,
        headers: json(7)?,
        body: row.text(8),
        signing: json(9),
        secrets: json(10).unwrap_or_default(),
        is_expired: row.integer(11) == Some(1),
    })
}

/// Writes outcomes. Returns which are done with, and the keys whose request has ended.
pub fn record(verdicts: &[Verdict]) -> (Vec<Id>, Vec<Key>) {
    let results: Vec<_> = verdicts.iter().map(result).collect();
    let results = Json::from(results).to_string();
    let write = |rows: &[Row]| {
        let done = rows
            .iter()
            .filter(|row| row.integer(2).unwrap_or_default() & 1 == 1);
        let ids = done.filter_map(|row| row.uuid(1)).collect();
        let keys = rows
            .iter()
            .filter_map(|row| Some((row.uuid(3)?, row.text(4)?)));
        (ids, keys.collect())
    };
    RECORD.with(|statement| statement.write(&[Value::from(&*results)], write))
}

fn result(Verdict { outcome, next }: &Verdict) -> Json {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    let (state, wait, error_code) = match next {
        Next::Succeeded => ("succeeded", Duration::ZERO, None),
        Next::Dead(code) => ("dead", Duration::ZERO, Some(code)),
        Next::Retry(wait, code) => ("pending", *wait, Some(code)),
    };
    let (answer, failure) = match &outcome.answer {
        Ok(answer) => (Some(answer), None),
        Err(failure) => (None, Some(&failure.text)),
    };
    json!({
        "id": uuid_text(&outcome.id),
        "attempt": outcome.attempt,
        "started_at": outcome.started_at as f64 / 1e6,
        "duration_ms": outcome.duration.as_millis() as i64,
        "status": answer.map(|answer| answer.status),
        "headers": answer.map(|answer| headers(&answer.headers)),
        "body": answer.map(|answer| STANDARD.encode(&answer.body)),
        "truncated": answer.is_some_and(|answer| answer.truncated),
        "state": state,
        "wait_ms": wait.as_millis() as i64,
        "error_code": error_code,
        "error": failure,
    })
}

/// A header that came twice has both values, as a client would join them.
fn headers(all: &[(String, String)]) -> Json {
    let mut joined = serde_json::Map::new();
    for (name, value) in all {
        let text = match joined.get(name).and_then(Json::as_str) {
            Some(first) => format!("{first}, {value}"),
            None => value.clone(),
        };
        joined.insert(name.clone(), text.into());
    }
    joined.into()
}

/// Lets the next request of each key go. Returns the keys that are done with, and these requests.
pub fn hand_on(keys: &[Key]) -> (Vec<Key>, Vec<Id>) {
    let wanted = keys
        .iter()
        .map(|(org, key)| json!({"org_id": uuid_text(org), "key": key}));
    let wanted = Json::from_iter(wanted).to_string();
    let read = |rows: &[Row]| {
        let ids = rows.iter().filter_map(|row| row.uuid(3)).collect();
        (keys_of(rows), ids)
    };
    HAND_ON.with(|statement| statement.write(&[Value::from(&*wanted)], read))
}

pub fn stranded() -> Vec<Key> {
    STRANDED.with(|statement| statement.read(&[Value::from(MAX_KEYS as i64)], keys_of))
}

/// Deletes what has ended long ago, a bounded number at a time.
pub fn purge(retention: Duration) {
    let until = clock::real_micros().saturating_sub(retention.as_micros() as i64);
    PURGE.with(|statement| statement.write(&[Value::from(until)], |_| ()));
}

fn keys_of(rows: &[Row]) -> Vec<Key> {
    let key = |row: &Row| Some((row.uuid(1)?, row.text(2)?));
    rows.iter().filter_map(key).collect()
}

fn list(ids: &[Id]) -> String {
    let ids: Vec<_> = ids.iter().map(uuid_text).collect();
    ids.join(",")
}

fn uuid_text(id: &Id) -> String {
    pgrx::Uuid::from_bytes(*id).to_string()
}
