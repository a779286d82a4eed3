//! Messages from SQL: read after their commit and handed to the members of their topic.
//!
//! 1. A notification wakes the reader, or a pause of two seconds ends.
//! 2. One statement reads what was committed since the last snapshot, in pages.
//! 3. Each message goes to the members on this instance. Members of other instances get it from theirs.

mod recent;
mod replay;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use kijko_core::db::{Db, DbError};
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio_postgres::Row;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::recent::{Recent, next_transaction};
use crate::{
    hub::{Hub, TopicKey},
    metrics::RealtimeSeries,
    protocol::{Body, Broadcast},
};

pub use replay::replay;

/// A lost notification costs this much time, never a message.
const POLL: Duration = Duration::from_secs(2);
/// Notifications that come meanwhile share one look.
const BREATH: Duration = Duration::from_millis(2);
/// After an error of the database.
const PAUSE: Duration = Duration::from_millis(500);
/// Partitions are made days ahead.
const MAINTENANCE: Duration = Duration::from_secs(600);
/// Rows of one page.
const PAGE: i32 = 1_000;
/// Bytes of payloads with which a page ends, so that large messages are not in memory at once.
const PAGE_BYTES: i64 = 4 * 1024 * 1024;

const READ: &str = "select snapshot_now, seq, id, topic, event, payload, binary_payload, private \
    from realtime_service.read_since($1, $2, $3, $4, $5)";

/// What wakes the reader.
#[derive(Debug, Default)]
pub struct Wake {
    /// Messages may have been committed.
    pub messages: Arc<Notify>,
    /// The connection to Postgres was lost: the server may have crashed.
    pub gap: AtomicBool,
}

/// Reads messages and hands them over.
pub struct Reader {
    db: Db,
    hub: Arc<Hub>,
    series: Arc<RealtimeSeries>,
    snapshot: Option<String>,
    recent: Recent,
}

impl Reader {
    /// That begins with what is committed from now on.
    pub fn new(db: Db, hub: Arc<Hub>, series: Arc<RealtimeSeries>) -> Self {
        Self {
            db,
            hub,
            series,
            snapshot: None,
            recent: Recent::default(),
        }
    }

    /// Reads and delivers until `stop`.
    pub async fn run(mut self, wake: Arc<Wake>, stop: CancellationToken) {
        loop {
            if wake.gap.swap(false, Ordering::SeqCst) {
                self.read_again();
            }
            let wait = match self.look().await {
                Ok(()) => POLL,
                Err(error) => {
                    tracing::warn!(%error, "messages cannot be read; trying again");
                    self.read_again();
                    PAUSE
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = wake.messages.notified() => tokio::time::sleep(BREATH).await,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// A server that crashed may use transaction numbers again that no commit had made durable. So what was read last is read
    /// again from a while before; what was delivered is known.
    fn read_again(&mut self) {
        if let Some(earlier) = self.recent.earlier() {
            self.snapshot = Some(earlier.to_owned());
        }
    }

    /// The snapshot moves on only after its messages were handed over: an error in between repeats the look.
    async fn look(&mut self) -> Result<(), DbError> {
        let look = self.hub.begin_look();
        let (mut until, mut after) = (None::<String>, i64::MIN);
        loop {
            let rows = self
                .db
                .query(READ, &[&self.snapshot, &until, &after, &PAGE, &PAGE_BYTES])
                .await?;
            let Some(first) = rows.first() else { break };
            if until.is_none() {
                let now: String = first.try_get("snapshot_now").map_err(unexpected)?;
                if self.went_back(&now) {
                    return Ok(());
                }
                until = Some(now);
            }
            let mut bytes = 0;
            for row in &rows {
                bytes += payload_bytes(row).map_err(unexpected)?;
                if let Some(seq) = self.deliver(row, look).map_err(unexpected)? {
                    after = seq;
                }
            }
            if rows.len() < PAGE as usize && bytes < PAGE_BYTES {
                break;
            }
        }
        if let Some(until) = until {
            self.recent.passed(&until, Instant::now());
            self.snapshot = Some(until);
        }
        Ok(())
    }

    /// After a crash, or in a database that was restored, the numbers of transactions begin again at a lower one.
    fn went_back(&mut self, now: &str) -> bool {
        let Some(last) = &self.snapshot else {
            return false;
        };
        if next_transaction(now) >= next_transaction(last) {
            return false;
        }
        let earlier = self.recent.earlier();
        self.snapshot = match earlier {
            Some(earlier) if next_transaction(earlier) <= next_transaction(now) => {
                Some(earlier.to_owned())
            }
            _ => {
                tracing::warn!("the database is one from before: messages are read from now on");
                self.recent = Recent::default();
                Some(now.to_owned())
            }
        };
        true
    }

    fn deliver(&mut self, row: &Row, look: u64) -> Result<Option<i64>, tokio_postgres::Error> {
        let Some(seq) = row.try_get::<_, Option<i64>>("seq")? else {
            return Ok(None);
        };
        let id: Uuid = row.try_get("id")?;
        if self.recent.add(id) {
            let topic: String = row.try_get("topic")?;
            let key = TopicKey::new(&topic, row.try_get("private")?);
            let message = Arc::new(broadcast(&topic, row, Some(look))?);
            self.series.from_sql.inc();
            self.hub.broadcast(&key, &message);
        }
        Ok(Some(seq))
    }
}

/// Keeps partitions ahead of time until `stop`.
pub async fn maintain(db: Db, stop: CancellationToken) {
    loop {
        match db
            .scalar::<i32>("select realtime_service.maintain()", &[])
            .await
        {
            Ok(0) => {}
            Ok(failures) => tracing::info!(
                failures,
                "partitions of realtime.messages are in use; trying again later"
            ),
            Err(error) => {
                tracing::warn!(%error, "partitions of realtime.messages were not maintained");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(MAINTENANCE) => {}
        }
    }
}

/// As `realtime_service.read_since()` counts them.
fn payload_bytes(row: &Row) -> Result<i64, tokio_postgres::Error> {
    let payload: Option<&str> = row.try_get("payload")?;
    let binary: Option<&[u8]> = row.try_get("binary_payload")?;
    Ok((payload.map_or(0, str::len) + binary.map_or(0, <[u8]>::len)) as i64)
}

fn unexpected(error: tokio_postgres::Error) -> DbError {
    DbError::Unexpected(error.to_string())
}

fn broadcast(
    topic: &str,
    row: &Row,
    look: Option<u64>,
) -> Result<Broadcast, tokio_postgres::Error> {
    let id: Uuid = row.try_get("id")?;
    let event: Option<String> = row.try_get("event")?;
    let payload: Option<String> = row.try_get("payload")?;
    let bytes: Option<Vec<u8>> = row.try_get("binary_payload")?;
    let body = match bytes {
        Some(bytes) => Body::Bytes(Bytes::from(bytes)),
        None => Body::Json(raw(payload)),
    };
    let event = event.unwrap_or_default();
    Ok(Broadcast::stored(topic, event, body, id, look))
}

/// Postgres writes jsonb, so it is JSON.
fn raw(text: Option<String>) -> Box<RawValue> {
    text.and_then(|text| RawValue::from_string(text).ok())
        .unwrap_or_else(|| RawValue::from_string("null".to_owned()).expect("null is JSON"))
}
