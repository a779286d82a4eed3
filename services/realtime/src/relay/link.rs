//! The work between instances: signs of life, sending, receiving.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use kijko_core::db::{Db, DbError};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    Relay, Relayed, frame, instance_of,
    peers::{self, Peers},
};
use crate::hub::Hub;

/// Signs of life. An instance without one for 15 seconds counts as gone.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// A lost notification costs this much time.
const POLL: Duration = Duration::from_secs(2);
/// Messages of one statement.
const BATCH: usize = 1_000;

const ALIVE: &str = "select realtime_service.heartbeat($1)";
const GOODBYE: &str = "select realtime_service.say_goodbye($1)";
const SEND: &str = "select realtime_service.relay($1, $2)";
const READ: &str = "select snapshot_now, sender, frame from realtime_service.read_relayed($1, $2)";

/// This instance among the others.
pub struct Link {
    /// The database.
    pub db: Db,
    /// Who listens here.
    pub hub: Arc<Hub>,
    /// Where the hub leaves messages.
    pub relay: Relay,
    /// This instance.
    pub instance: i32,
    /// The others.
    pub peers: Mutex<Peers>,
    /// Messages of others may wait.
    pub wake: Arc<Notify>,
}

/// Works until `stop`.
pub async fn run(link: Arc<Link>, outgoing: mpsc::Receiver<Relayed>, stop: CancellationToken) {
    let work = async {
        // Before others know of this instance: their answers come after this.
        let snapshot = first_snapshot(&link).await;
        tokio::join!(
            stay_alive(&link),
            send(&link, outgoing),
            receive(&link, snapshot)
        );
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
    let _ = link.db.query(GOODBYE, &[&link.instance]).await;
}

async fn stay_alive(link: &Link) {
    let mut lost = link.relay.lost.get();
    loop {
        match link.db.scalar::<Vec<i32>>(ALIVE, &[&link.instance]).await {
            Ok(alive) => {
                let change = link.peers().set(&alive);
                link.note_peers();
                for gone in change.gone {
                    peers::forget(&link.hub, gone);
                }
                let lost_before = std::mem::replace(&mut lost, link.relay.lost.get());
                if !change.came.is_empty() || lost != lost_before {
                    link.send_state();
                }
                // They may have been away only for a while, and forgotten here.
                link.ask(change.came);
            }
            Err(error) => tracing::debug!(%error, "no sign of life"),
        }
        tokio::time::sleep(HEARTBEAT).await;
    }
}

async fn send(link: &Link, mut outgoing: mpsc::Receiver<Relayed>) {
    let mut batch = Vec::new();
    loop {
        if outgoing.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        // They are made to text at once, so that what waits is this batch once more at the most.
        link.relay.taken(batch.iter().map(Relayed::bytes).sum());
        let frames: Vec<String> = batch
            .drain(..)
            .filter_map(|message| serde_json::to_string(&link.filled(message)).ok())
            .collect();
        if let Err(error) = link.db.query(SEND, &[&link.instance, &frames]).await {
            tracing::warn!(%error, lost = frames.len(), "messages did not reach the other instances");
            tokio::time::sleep(HEARTBEAT).await;
            // Who is present must be right again; broadcasts are not repeated.
            link.send_state();
        }
    }
}

async fn first_snapshot(link: &Link) -> Option<String> {
    let mut snapshot = None;
    while snapshot.is_none() {
        if let Err(error) = link.read(&mut snapshot).await {
            tracing::debug!(%error, "messages of other instances cannot be read");
            tokio::time::sleep(POLL).await;
        }
    }
    snapshot
}

async fn receive(link: &Link, mut snapshot: Option<String>) {
    loop {
        if let Err(error) = link.read(&mut snapshot).await {
            tracing::debug!(%error, "messages of other instances cannot be read");
        }
        tokio::select! {
            () = link.wake.notified() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

impl Link {
    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_peers(&self) {
        let has_peers = !self.peers().is_empty();
        self.relay.has_peers.store(has_peers, Ordering::Relaxed);
    }

    fn send_state(&self) {
        self.relay.send(|| Relayed::State(Vec::new()));
    }

    /// A state is read when it leaves: one that waited behind a change would undo that change elsewhere.
    fn filled(&self, message: Relayed) -> Relayed {
        match message {
            Relayed::State(_) => Relayed::State(peers::own_state(&self.hub, self.instance)),
            other => other,
        }
    }

    fn ask(&self, instances: Vec<i32>) {
        if !instances.is_empty() {
            self.relay.send(|| Relayed::Ask(instances));
        }
    }

    async fn read(&self, snapshot: &mut Option<String>) -> Result<(), DbError> {
        let rows = self.db.query(READ, &[&self.instance, snapshot]).await?;
        let unexpected = |error: tokio_postgres::Error| DbError::Unexpected(error.to_string());
        for row in &rows {
            let sender: Option<i32> = row.try_get(1).map_err(unexpected)?;
            let text: Option<&str> = row.try_get(2).map_err(unexpected)?;
            if let (Some(sender), Some(text)) = (sender, text) {
                self.take(sender, text);
            }
        }
        if let Some(row) = rows.first() {
            *snapshot = Some(row.try_get(0).map_err(unexpected)?);
        }
        Ok(())
    }

    fn take(&self, sender: i32, text: &str) {
        let Ok(message) = serde_json::from_str::<Relayed>(text) else {
            tracing::warn!("a message of another instance is of an unknown form");
            return;
        };
        if self.peers().add(sender) {
            self.note_peers();
            self.send_state();
            self.ask(vec![sender]);
        }
        match message {
            Relayed::Ask(instances) if instances.contains(&self.instance) => self.send_state(),
            Relayed::Ask(_) => {}
            Relayed::State(state) => peers::replace(&self.hub, sender, state),
            Relayed::Broadcast(topic, event, payload, sender) => {
                if let Some(message) = frame::message(&topic, event, payload, sender) {
                    self.hub.broadcast(&topic.key(), &message);
                }
            }
            Relayed::Track(present) => {
                if instance_of(present.member.socket) == sender {
                    let key = present.topic.key();
                    self.hub.track_remote(&key, present.member, present.meta);
                }
            }
            Relayed::Untrack(topic, member) => self.hub.untrack_remote(&topic.key(), member),
        }
    }
}
