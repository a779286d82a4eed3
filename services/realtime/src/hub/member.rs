//! One join of one socket.

use std::{collections::HashSet, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::outbox::{Outbox, Outgoing};
use crate::protocol::{Broadcast, Frame, Version, socket_topic};

/// Which join. Sockets of all instances have different numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MemberId {
    /// The socket.
    pub socket: u64,
    /// Which of its joins, in their order.
    pub join: u64,
}

/// A member of a topic.
#[derive(Debug)]
pub struct Member {
    /// Which join it is.
    pub id: MemberId,
    /// The client's name of the join.
    pub join_ref: Option<Arc<str>>,
    /// The socket's serializer.
    pub version: Version,
    /// Where its messages go.
    pub outbox: Outbox,
    /// Whether policies let it receive broadcasts.
    pub hears_broadcasts: bool,
    /// Whether it asked for presence and policies let it receive it.
    pub hears_presence: bool,
    /// Whether its client has joined `me`, and gets the topic's messages there.
    pub on_me: bool,
    /// What is replayed to it, while live messages may repeat it.
    pub replay: Option<Box<Replaying>>,
}

/// A replay that goes on, or has ended a moment ago.
#[derive(Debug, Default)]
pub struct Replaying {
    /// Live messages wait until the replay has ended.
    held: Option<Vec<Arc<Broadcast>>>,
    held_bytes: usize,
    replayed: HashSet<Uuid>,
    last_look: u64,
}

impl Replaying {
    /// A replay that begins.
    pub fn begin() -> Box<Self> {
        Box::new(Self {
            held: Some(Vec::new()),
            ..Self::default()
        })
    }
}

impl Member {
    /// Sends a live message, unless it is held back or was replayed.
    pub(super) fn deliver(&mut self, message: &Arc<Broadcast>) {
        if let Some(replay) = &mut self.replay {
            if let Some(held) = &mut replay.held {
                replay.held_bytes += message.bytes();
                if self.outbox.allows(held.len() + 1, replay.held_bytes) {
                    held.push(message.clone());
                }
                return;
            }
            if message.look() > replay.last_look {
                self.replay = None;
            } else if message.id().is_some_and(|id| replay.replayed.contains(&id)) {
                return;
            }
        }
        self.send(message.clone());
    }

    /// The replay has sent these messages; the reader of messages was at this look then. It may have read a little less than the
    /// replay, so a message that both read comes within the next look.
    pub(super) fn end_replay(&mut self, replayed: HashSet<Uuid>, look: u64) {
        let Some(replay) = &mut self.replay else {
            return;
        };
        let held = replay.held.take().unwrap_or_default();
        replay.replayed = replayed;
        replay.last_look = look + 1;
        for message in held {
            self.deliver(&message);
        }
    }

    fn send(&self, message: Arc<Broadcast>) {
        self.outbox.send(match self.on_me {
            true => Outgoing::BroadcastOnMe(message),
            false => Outgoing::Broadcast(message),
        });
    }

    /// Sends an event of the channel.
    pub(super) fn send_event(&self, name: &str, event: &str, payload: impl Serialize) {
        let frame = Frame {
            join_ref: self.join_ref.as_deref(),
            reference: None,
            topic: &socket_topic(name),
            event,
            payload,
        };
        self.outbox
            .send(Outgoing::Frame(frame.encode(self.version)));
    }
}
