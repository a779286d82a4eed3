//! One join of one socket.

use std::{collections::HashSet, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::outbox::{Offered, Outbox, Outgoing};
use crate::protocol::{Broadcast, Frame, ME, Version, socket_topic};

const LOST: &str =
    "MessagesLost: other clients send more than this client reads; some of their messages are lost";

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
    /// Whether it has missed a difference of presence, and gets the state when it has room again.
    pub is_behind: bool,
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
                let bytes = replay.held_bytes + message.bytes();
                if message.sender().is_some() && !self.outbox.half_holds(held.len() + 1, bytes) {
                    return;
                }
                replay.held_bytes = bytes;
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
        self.send(message);
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

    fn send(&self, message: &Arc<Broadcast>) {
        let outgoing = match self.on_me {
            true => Outgoing::BroadcastOnMe(message.clone()),
            false => Outgoing::Broadcast(message.clone()),
        };
        if message.sender().is_none() {
            self.outbox.send(outgoing);
        } else if self.outbox.offer(outgoing) == Offered::FirstLost {
            let topic = message.topic();
            let payload = json!({ "extension": "system", "status": "error", "message": LOST, "channel": topic });
            // Not by send(), which would close a socket that a client's message has found full.
            let name = if self.on_me { ME } else { topic };
            self.outbox
                .send_if_room(self.event(name, "system", payload));
        }
    }

    /// Sends an event of the channel.
    pub(super) fn send_event(&self, name: &str, event: &str, payload: impl Serialize) {
        self.outbox.send(self.event(name, event, payload));
    }

    /// An event of the channel.
    pub(super) fn event(&self, name: &str, event: &str, payload: impl Serialize) -> Outgoing {
        let frame = Frame {
            join_ref: self.join_ref.as_deref(),
            reference: None,
            topic: &socket_topic(name),
            event,
            payload,
        };
        Outgoing::Frame(frame.encode(self.version))
    }
}
