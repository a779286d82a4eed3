//! Broadcasts and presence from a client.

use std::{sync::Arc, time::Instant};

use serde_json::{json, value::RawValue};

use super::{
    channel::{Channel, Membership},
    connection::Connection,
    reply::ReplyTo,
};
use crate::protocol::{Body, Broadcast, Reply};

impl Connection {
    /// As upstream, a client that did not ask for answers gets none, also when it is refused.
    pub(super) fn broadcast(&self, to: &ReplyTo, event: String, body: Body) {
        let Some(channel) = self.channels.get(&to.topic) else {
            return self.refuse(to, "NotJoined: the channel is not joined");
        };
        let sent = match channel.only() {
            Some(membership) => self.send_broadcast(channel, membership, event, body),
            None => Err(READ_ONLY.to_owned()),
        };
        match sent {
            Ok(()) if channel.ack => self.reply(to, Reply::Ok(json!({}))),
            Ok(()) => {}
            Err(reason) => {
                self.service.series.refused("broadcast");
                if channel.ack {
                    self.refuse(to, reason);
                }
            }
        }
    }

    fn send_broadcast(
        &self,
        channel: &Channel,
        membership: &Membership,
        event: String,
        body: Body,
    ) -> Result<(), String> {
        if !membership.grants.write_broadcast {
            return Err(no_write(&membership.key.name));
        }
        if !self.service.limits.fits(&event, body.len()) {
            return Err("payload_size_exceeded".to_owned());
        }
        let key = &membership.key;
        let message = Broadcast::new(&key.name, event, body, None);
        let message = Arc::new(message.sent_by(channel.caller.sender()));
        let except = (!channel.own).then_some(membership.id);
        self.service.hub.broadcast_everywhere(key, &message, except);
        Ok(())
    }

    /// Comes (with a payload) or goes. A client that changes its presence too often is refused; upstream closes the channel.
    pub(super) fn track(&mut self, to: &ReplyTo, payload: Option<&RawValue>) {
        let allowed = payload.is_none() || self.presence_rate.take(Instant::now());
        let elsewhere = self.presence_bytes(&to.topic);
        let Some(channel) = self.channels.get_mut(&to.topic) else {
            return self.refuse(to, "NotJoined: the channel is not joined");
        };
        let Some(membership) = channel.memberships.first().filter(|_| !channel.is_me) else {
            return self.refuse(to, READ_ONLY);
        };
        let name = &membership.key.name;
        let limits = &self.service.limits;
        let bytes = payload.map_or(0, |payload| payload.get().len());
        let refusal = if !allowed {
            Some("ClientPresenceRateLimitReached: too many presence messages".to_owned())
        } else if !membership.grants.write_presence {
            Some(no_write(name))
        } else if bytes > limits.message_bytes {
            Some("payload_size_exceeded".to_owned())
        } else if elsewhere + bytes > limits.message_bytes {
            Some(MUCH_OF_SOCKET.to_owned())
        } else {
            None
        };
        if let Some(reason) = refusal {
            self.service.series.refused("presence");
            return self.refuse(to, reason);
        }
        let (hub, topic, id) = (&self.service.hub, &membership.topic, membership.id);
        let tracked = match payload {
            Some(payload) => {
                // Who tracks without having asked for presence gets it from then on.
                if !channel.wants_presence && membership.grants.read_presence {
                    topic.set_hearing(id, membership.grants.read_broadcast, true);
                    topic.send_presence_state(name, id);
                    channel.wants_presence = true;
                }
                let (key, most) = (&channel.presence_key, limits.topic_presence_bytes());
                hub.track(&membership.key, topic, id, key, payload, most)
            }
            None => {
                hub.untrack(&membership.key, topic, id);
                Ok(())
            }
        };
        if tracked.is_err() {
            self.service.series.refused("presence");
            return self.refuse(to, MUCH_OF_TOPIC);
        }
        channel.presence_bytes = bytes;
        self.reply(to, Reply::Ok(json!({})));
    }

    /// What the socket says of itself on its other channels.
    fn presence_bytes(&self, besides: &str) -> usize {
        let others = self.channels.iter().filter(|(topic, _)| *topic != besides);
        others.map(|(_, channel)| channel.presence_bytes).sum()
    }
}

const MUCH_OF_SOCKET: &str = "payload_size_exceeded: the presences of a socket have no more bytes together than one may have";
const MUCH_OF_TOPIC: &str =
    "PresenceFull: those who are present on this channel say too much together";
const READ_ONLY: &str = "Unauthorized: me only receives; send to a topic of your own";

fn no_write(topic: &str) -> String {
    format!("Unauthorized: You do not have permissions to write to this Channel topic: {topic}")
}
