//! What instances pass to each other, as JSON.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    hub::{MemberId, Meta, TopicKey},
    protocol::{Body, Broadcast, Sender},
};

/// One message between instances.
#[derive(Debug, Serialize, Deserialize)]
pub enum Relayed {
    /// Asks these instances who is present at them.
    Ask(Vec<i32>),
    /// Everybody who is present at the sender.
    State(Vec<Present>),
    /// A client's broadcast.
    Broadcast(Topic, String, Payload, Option<Sender>),
    /// Somebody is present.
    Track(Present),
    /// Somebody is no longer present.
    Untrack(Topic, MemberId),
}

/// A topic's name, and whether it is private.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Topic(String, bool);

/// A presence.
#[derive(Debug, Serialize, Deserialize)]
pub struct Present {
    /// Where.
    pub topic: Topic,
    /// Who.
    pub member: MemberId,
    /// With what.
    pub meta: Meta,
}

/// What a broadcast carries.
#[derive(Debug, Serialize, Deserialize)]
pub enum Payload {
    /// JSON.
    Json(Box<RawValue>),
    /// Bytes, in hexadecimal.
    Hex(String),
}

impl Topic {
    /// As the hub names it.
    pub fn key(&self) -> TopicKey {
        TopicKey::new(&self.0, self.1)
    }
}

impl From<&TopicKey> for Topic {
    fn from(key: &TopicKey) -> Self {
        Self(key.name.to_string(), key.private)
    }
}

impl Relayed {
    /// A client's broadcast.
    pub fn broadcast(key: &TopicKey, message: &Broadcast) -> Self {
        let payload = match message.body() {
            Body::Json(json) => Payload::Json(json.clone()),
            Body::Bytes(bytes) => Payload::Hex(to_hex(bytes)),
        };
        let event = message.event().to_owned();
        Self::Broadcast(key.into(), event, payload, message.sender())
    }

    /// About what it takes until it is sent. A state is read only then.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Broadcast(topic, event, payload, _) => {
                let payload = match payload {
                    Payload::Json(json) => json.get().len(),
                    Payload::Hex(hex) => hex.len(),
                };
                topic.0.len() + event.len() + payload
            }
            Self::Track(present) => present.topic.0.len() + present.meta.bytes(),
            Self::Untrack(..) | Self::Ask(_) | Self::State(_) => 0,
        }
    }

    /// Somebody is present.
    pub fn track(key: &TopicKey, member: MemberId, meta: Meta) -> Self {
        Self::Track(Present {
            topic: key.into(),
            member,
            meta,
        })
    }

    /// Somebody is no longer present.
    pub fn untrack(key: &TopicKey, member: MemberId) -> Self {
        Self::Untrack(key.into(), member)
    }
}

/// The message of a relayed broadcast.
pub fn message(
    topic: &Topic,
    event: String,
    payload: Payload,
    sender: Option<Sender>,
) -> Option<Arc<Broadcast>> {
    let body = match payload {
        Payload::Json(json) => Body::Json(json),
        Payload::Hex(hex) => Body::Bytes(from_hex(&hex)?),
    };
    let message = Broadcast::new(&topic.0, event, body, None).sent_by(sender);
    Some(Arc::new(message))
}

fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

fn from_hex(hex: &str) -> Option<Bytes> {
    let digits = hex.as_bytes().chunks(2).map(|pair| {
        let text = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(text, 16).ok()
    });
    digits.collect::<Option<Vec<u8>>>().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(message: &Relayed) -> Relayed {
        serde_json::from_str(&serde_json::to_string(message).unwrap()).unwrap()
    }

    #[test]
    fn a_broadcast_keeps_what_it_carries() {
        let key = TopicKey::new("room", true);
        let bodies = [
            Body::Json(serde_json::from_str(r#"{"x": 1.10}"#).unwrap()),
            Body::Bytes(Bytes::from_static(b"\0\xff\x10")),
        ];
        for body in bodies {
            let sent = Broadcast::new("room", "e".to_owned(), body, None);
            let sent = sent.sent_by(Some(Sender::of("ada")));
            let relayed = round(&Relayed::broadcast(&key, &sent));
            let Relayed::Broadcast(topic, event, payload, sender) = relayed else {
                panic!("no broadcast")
            };
            assert_eq!(topic.key(), key);
            let got = message(&topic, event, payload, sender).unwrap();
            assert_eq!(got.sender(), sent.sender());
            match (sent.body(), got.body()) {
                (Body::Json(a), Body::Json(b)) => assert_eq!(a.get(), b.get()),
                (Body::Bytes(a), Body::Bytes(b)) => assert_eq!(a, b),
                other => panic!("{other:?}"),
            }
        }
    }
}
