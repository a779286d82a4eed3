//! One joined channel of a socket.

use std::sync::Arc;

use tokio::task::AbortHandle;

use crate::{
    authorize::{Caller, Grants},
    hub::{MemberId, Outbox, Topic, TopicKey},
};

/// A joined channel.
pub struct Channel {
    /// The client's name of the join.
    pub join_ref: Option<Arc<str>>,
    /// Who joined.
    pub caller: Arc<Caller>,
    /// What is joined: one topic, or those of `me`.
    pub memberships: Vec<Membership>,
    /// Whether it is `me`.
    pub is_me: bool,
    /// Whether broadcasts are answered.
    pub ack: bool,
    /// Whether own broadcasts come back.
    pub own: bool,
    /// Whether presence was asked for.
    pub wants_presence: bool,
    /// The key of presence.
    pub presence_key: Box<str>,
    /// Bytes that it says of itself.
    pub presence_bytes: usize,
    /// What sends messages from the past, until it has.
    pub replay: Option<AbortHandle>,
}

/// A joined topic.
pub struct Membership {
    /// Its place in the hub.
    pub key: TopicKey,
    /// Its membership there.
    pub id: MemberId,
    /// The topic.
    pub topic: Arc<Topic>,
    /// Its own way into the socket's queue.
    pub outbox: Outbox,
    /// What the caller may do.
    pub grants: Grants,
}

impl Channel {
    /// The caller may no longer read: nothing more is sent, also not what waits.
    pub fn shut(&self) {
        for membership in &self.memberships {
            membership.outbox.shut();
        }
    }

    /// The topic of a channel that is not `me`.
    pub fn only(&self) -> Option<&Membership> {
        self.memberships.first().filter(|_| !self.is_me)
    }
}
