//! Messages to a client.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::OnceLock,
};

use axum::extract::ws::Message;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use uuid::Uuid;

use super::{Body, ME, Version, binary, socket_topic};

/// One message for one socket.
#[derive(Debug)]
pub struct Frame<'a, P = Value> {
    /// The join that it belongs to; none for messages to every join of a topic.
    pub join_ref: Option<&'a str>,
    /// What it replies to.
    pub reference: Option<&'a str>,
    /// As on the socket.
    pub topic: &'a str,
    /// Its event.
    pub event: &'a str,
    /// Its payload.
    pub payload: P,
}

impl<P: Serialize> Frame<'_, P> {
    /// As the serializer writes it.
    pub fn encode(&self, version: Version) -> Message {
        encode(
            version,
            self.join_ref,
            self.reference,
            self.topic,
            self.event,
            &self.payload,
        )
    }
}

/// A frame of either serializer, of any payload.
fn encode(
    version: Version,
    join_ref: Option<&str>,
    reference: Option<&str>,
    topic: &str,
    event: &str,
    payload: &impl Serialize,
) -> Message {
    #[derive(Serialize)]
    struct V1<'a, P> {
        topic: &'a str,
        event: &'a str,
        payload: P,
        #[serde(rename = "ref")]
        reference: Option<&'a str>,
        join_ref: Option<&'a str>,
    }
    let text = match version {
        Version::V1 => serde_json::to_string(&V1 {
            topic,
            event,
            payload,
            reference,
            join_ref,
        }),
        Version::V2 => serde_json::to_string(&(join_ref, reference, topic, event, payload)),
    };
    Message::Text(text.expect("JSON").into())
}

/// The answer to a message.
#[derive(Debug)]
pub enum Reply {
    /// It was done.
    Ok(Value),
    /// It was refused. Clients join the values of the response to one text.
    Error {
        /// `Code: what and why`.
        reason: String,
    },
}

impl Reply {
    /// The payload of `phx_reply`.
    pub fn payload(self) -> Value {
        match self {
            Self::Ok(response) => json!({ "status": "ok", "response": response }),
            Self::Error { reason } => {
                json!({ "status": "error", "response": { "reason": reason } })
            }
        }
    }
}

/// A broadcast to every join of a topic. It is encoded once for each serializer, however many sockets get it.
#[derive(Debug)]
pub struct Broadcast {
    topic: String,
    event: String,
    body: Body,
    id: Option<Uuid>,
    replayed: bool,
    look: u64,
    sender: Option<Sender>,
    forms: [OnceLock<Option<Message>>; 4],
}

/// Whose message it is: a number for a user, an API key or a network. One sender's messages take a part of the room that a member
/// has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sender(u64);

impl Sender {
    /// The same for every instance.
    pub fn of(name: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self(hasher.finish())
    }
}

impl Broadcast {
    /// From a client, on the bare topic.
    pub fn new(topic: &str, event: String, body: Body, id: Option<Uuid>) -> Self {
        Self {
            topic: topic.to_owned(),
            event,
            body,
            id,
            replayed: false,
            look: 0,
            sender: None,
            forms: Default::default(),
        }
    }

    /// The same, as this caller's; none is the operator's.
    pub fn sent_by(self, sender: Option<Sender>) -> Self {
        Self { sender, ..self }
    }

    /// Whose it is; none for messages from SQL and the operator's.
    pub fn sender(&self) -> Option<Sender> {
        self.sender
    }

    /// From SQL: read by that look, or replayed. Clients see `meta: {id}`, and whether it is replayed.
    pub fn stored(topic: &str, event: String, body: Body, id: Uuid, look: Option<u64>) -> Self {
        Self {
            replayed: look.is_none(),
            look: look.unwrap_or(0),
            ..Self::new(topic, event, body, Some(id))
        }
    }

    /// The id of a stored message.
    pub fn id(&self) -> Option<Uuid> {
        self.id
    }

    /// Which look for messages has read it. 0: none.
    pub fn look(&self) -> u64 {
        self.look
    }

    /// The user's event.
    pub fn event(&self) -> &str {
        &self.event
    }

    /// What it carries.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// About what it takes to keep and to send.
    pub fn bytes(&self) -> usize {
        self.topic.len() + self.event.len() + self.body.len()
    }

    /// The bare topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// As the serializer writes it. None for bytes by serializer 1.0.0, which has no form for them. `on_me`: on the channel
    /// `me`, with the topic in `meta`.
    pub fn encode(&self, version: Version, on_me: bool) -> Option<Message> {
        let form = match version {
            Version::V1 => usize::from(on_me),
            Version::V2 => 2 + usize::from(on_me),
        };
        self.forms[form]
            .get_or_init(|| {
                let topic = socket_topic(if on_me { ME } else { &self.topic });
                let meta = self.meta(on_me);
                match version {
                    Version::V1 => self.text(version, &topic, meta.as_ref()),
                    Version::V2 => self.v2(&topic, meta.as_ref()),
                }
            })
            .clone()
    }

    /// What clients see beside the payload.
    fn meta(&self, on_me: bool) -> Option<Value> {
        let mut meta = serde_json::Map::new();
        if let Some(id) = self.id {
            meta.insert("id".to_owned(), json!(id));
        }
        if self.replayed {
            meta.insert("replayed".to_owned(), json!(true));
        }
        if on_me {
            meta.insert("topic".to_owned(), json!(self.topic));
        }
        (!meta.is_empty()).then_some(Value::Object(meta))
    }

    /// An event of more than 255 bytes has the text form only.
    fn v2(&self, topic: &str, meta: Option<&Value>) -> Option<Message> {
        let text = meta.map(Value::to_string).unwrap_or_default();
        match binary::write(topic, &self.event, &text, &self.body) {
            Some(frame) => Some(Message::Binary(frame)),
            None => self.text(Version::V2, topic, meta),
        }
    }

    fn text(&self, version: Version, topic: &str, meta: Option<&Value>) -> Option<Message> {
        #[derive(Serialize)]
        struct Payload<'a> {
            r#type: &'static str,
            event: &'a str,
            payload: &'a RawValue,
            #[serde(skip_serializing_if = "Option::is_none")]
            meta: Option<&'a Value>,
        }
        let Body::Json(payload) = &self.body else {
            return None;
        };
        let payload = Payload {
            r#type: "broadcast",
            event: &self.event,
            payload,
            meta,
        };
        Some(encode(version, None, None, topic, "broadcast", &payload))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn text(message: Message) -> String {
        match message {
            Message::Text(text) => text.to_string(),
            other => panic!("not text: {other:?}"),
        }
    }

    #[test]
    fn a_reply_names_what_it_answers() {
        let frame = Frame {
            join_ref: Some("1"),
            reference: Some("2"),
            topic: "realtime:room",
            event: "phx_reply",
            payload: Reply::Ok(json!({})).payload(),
        };
        // The order of an object's members is not the frame's.
        let parsed = |version| serde_json::from_str::<Value>(&text(frame.encode(version))).unwrap();
        let payload = json!({"status": "ok", "response": {}});
        assert_eq!(
            parsed(Version::V2),
            json!(["1", "2", "realtime:room", "phx_reply", payload])
        );
        assert_eq!(
            parsed(Version::V1),
            json!({"topic": "realtime:room", "event": "phx_reply", "payload": payload, "ref": "2", "join_ref": "1"})
        );
    }

    fn broadcast(body: Body) -> Broadcast {
        Broadcast::new("room", "move".to_owned(), body, None)
    }

    #[test]
    fn a_broadcast_has_a_form_for_each_serializer() {
        let json = broadcast(Body::Json(serde_json::from_str(r#"{"x":1.10}"#).unwrap()));
        assert_eq!(
            text(json.encode(Version::V1, false).unwrap()),
            r#"{"topic":"realtime:room","event":"broadcast","payload":{"type":"broadcast","event":"move","payload":{"x":1.10}},"ref":null,"join_ref":null}"#
        );
        assert!(
            matches!(json.encode(Version::V2, false), Some(Message::Binary(frame)) if frame[0] == 4)
        );
        let bytes = broadcast(Body::Bytes(Bytes::from_static(b"\0\xff")));
        assert!(bytes.encode(Version::V1, false).is_none());
        assert!(matches!(
            bytes.encode(Version::V2, false),
            Some(Message::Binary(_))
        ));
    }

    #[test]
    fn a_long_event_has_the_text_form() {
        let body = Body::Json(serde_json::from_str("1").unwrap());
        let long = Broadcast::new("room", "e".repeat(300), body, None);
        assert!(
            text(long.encode(Version::V2, false).unwrap())
                .starts_with(r#"[null,null,"realtime:room","broadcast""#)
        );
    }

    #[test]
    fn on_me_a_message_says_its_topic() {
        let body = Body::Json(serde_json::from_str("1").unwrap());
        let message = Broadcast::new("org:1", "e".to_owned(), body, None);
        assert_eq!(
            text(message.encode(Version::V1, true).unwrap()),
            r#"{"topic":"realtime:me","event":"broadcast","payload":{"type":"broadcast","event":"e","payload":1,"meta":{"topic":"org:1"}},"ref":null,"join_ref":null}"#
        );
    }
}
