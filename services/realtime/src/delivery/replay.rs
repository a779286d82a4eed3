//! Messages of a private channel from the past, for a client that joins.

use std::{collections::HashSet, sync::Arc};

use kijko_core::db::{Db, DbError};

use super::broadcast;
use crate::{
    hub::{Hub, MemberId, Outbox, Outgoing, Topic},
    protocol::{Broadcast, Replay},
};

const READ: &str = "select id, event, payload, binary_payload \
    from realtime_service.replay($1, to_timestamp($2::float8 / 1000), $3)";

/// Sends them to a member whose live messages are held back until then.
pub async fn replay(
    db: &Db,
    hub: &Hub,
    name: &str,
    (topic, id, outbox): (&Topic, MemberId, &Outbox),
    replay: Replay,
) {
    let mut replayed = HashSet::new();
    match read(db, name, replay).await {
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

async fn read(db: &Db, name: &str, replay: Replay) -> Result<Vec<Broadcast>, DbError> {
    let since = replay.since as f64;
    let limit = i32::try_from(replay.limit).unwrap_or(1);
    db.all(READ, &[&name, &since, &limit], |row| {
        broadcast(name, row, None)
    })
    .await
}
