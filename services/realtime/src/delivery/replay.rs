//! Messages of a private channel from the past, for a client that joins.

use std::{collections::HashSet, sync::Arc};

use kijko_core::db::{Db, DbError};

use super::broadcast;
use crate::{
    hub::{Hub, MemberId, Outbox, Outgoing, Topic},
    protocol::{Broadcast, Replay},
};

const READ: &str = "select id, event, payload, binary_payload \
    from realtime_service.replay($1, to_timestamp($2::float8 / 1000), $3, $4) order by seq";

/// Sends them to a member whose live messages are held back until then.
pub async fn replay(
    db: &Db,
    hub: &Hub,
    name: &str,
    (topic, id, outbox): (&Topic, MemberId, &Outbox),
    replay: Replay,
    max_bytes: usize,
) {
    let mut replayed = HashSet::new();
    match read(db, name, replay, max_bytes).await {
        Ok(messages) => {
            for message in messages {
                replayed.extend(message.id());
                outbox.room().await;
                outbox.send(Outgoing::Broadcast(Arc::new(message)));
            }
        }
        Err(error) => tracing::warn!(%error, "messages were not replayed"),
    }
    hub.end_replay(topic, id, replayed);
}

/// All of them at once, so that nothing of the database is held while a client reads slowly: they are few, and their bytes are
/// bounded.
async fn read(
    db: &Db,
    name: &str,
    replay: Replay,
    max_bytes: usize,
) -> Result<Vec<Broadcast>, DbError> {
    let since = replay.since as f64;
    let limit = i32::try_from(replay.limit).unwrap_or(1);
    let max_bytes = i64::try_from(max_bytes).unwrap_or(i64::MAX);
    db.all(READ, &[&name, &since, &limit, &max_bytes], |row| {
        broadcast(name, row, None)
    })
    .await
}
