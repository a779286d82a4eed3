//! Messages from a client.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Body, JoinPayload, Version, binary};

/// Clients count their messages, so a reference is a number. It is kept with the channel and repeated in answers.
const MAX_REFERENCE: usize = 64;

/// Why a message cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseError {
    /// It is not what the serializer writes.
    #[error("{0}")]
    Malformed(&'static str),
}

/// One message, and how its answer is addressed.
#[derive(Debug)]
pub struct Incoming {
    /// The join that it belongs to.
    pub join_ref: Option<String>,
    /// What a reply names.
    pub reference: Option<String>,
    /// As on the socket, with its prefix.
    pub topic: String,
    /// What is asked for.
    pub received: Received,
}

/// What a client asks for.
#[derive(Debug)]
pub enum Received {
    /// `phx_join`.
    Join(Box<JoinPayload>),
    /// `phx_leave`.
    Leave,
    /// `heartbeat` on the topic `phoenix`.
    Heartbeat,
    /// `access_token`: the token of the channel from now on; none for a payload without one.
    AccessToken(Option<String>),
    /// `broadcast`, as text or as a binary frame.
    Broadcast {
        /// The user's event.
        event: String,
        /// What it carries.
        body: Body,
    },
    /// `presence` with the event `track`.
    Track(Box<RawValue>),
    /// `presence` with the event `untrack`.
    Untrack,
    /// Anything else.
    Unknown(String),
}

/// A text frame of serializer 1.0.0.
#[derive(Deserialize)]
struct V1<'a> {
    topic: String,
    event: String,
    #[serde(default, borrow)]
    payload: Option<&'a RawValue>,
    #[serde(default, rename = "ref")]
    reference: Option<String>,
    #[serde(default)]
    join_ref: Option<String>,
}

/// A text frame of serializer 2.0.0: `[join_ref, ref, topic, event, payload]`.
#[derive(Deserialize)]
struct V2<'a>(
    Option<String>,
    Option<String>,
    String,
    String,
    #[serde(borrow)] Option<&'a RawValue>,
);

impl Incoming {
    /// Reads a text frame.
    pub fn from_text(version: Version, text: &str) -> Result<Self, ParseError> {
        let malformed = |_| ParseError::Malformed("a message is not what the serializer writes");
        let (join_ref, reference, topic, event, payload) = match version {
            Version::V1 => {
                let V1 {
                    topic,
                    event,
                    payload,
                    reference,
                    join_ref,
                } = serde_json::from_str(text).map_err(malformed)?;
                (join_ref, reference, topic, event, payload)
            }
            Version::V2 => {
                let V2(join_ref, reference, topic, event, payload) =
                    serde_json::from_str(text).map_err(malformed)?;
                (join_ref, reference, topic, event, payload)
            }
        };
        let received = received(&topic, event, payload)?;
        for reference in [&join_ref, &reference].into_iter().flatten() {
            if reference.len() > MAX_REFERENCE {
                return Err(ParseError::Malformed("a reference is too long"));
            }
        }
        Ok(Self {
            join_ref,
            reference,
            topic,
            received,
        })
    }

    /// Reads a binary frame: a broadcast.
    pub fn from_binary(frame: &Bytes) -> Result<Self, ParseError> {
        let push = binary::read(frame)?;
        Ok(Self {
            join_ref: push.join_ref,
            reference: push.reference,
            topic: push.topic,
            received: Received::Broadcast {
                event: push.event,
                body: push.body,
            },
        })
    }
}

fn received(
    topic: &str,
    event: String,
    payload: Option<&RawValue>,
) -> Result<Received, ParseError> {
    let text = payload.map_or("null", RawValue::get);
    Ok(match event.as_str() {
        "heartbeat" if topic == "phoenix" => Received::Heartbeat,
        "phx_join" => Received::Join(Box::new(JoinPayload::read(text))),
        "phx_leave" => Received::Leave,
        "access_token" => Received::AccessToken(access_token(text)),
        "broadcast" => broadcast(text)?,
        "presence" => presence(text)?,
        _ => Received::Unknown(event),
    })
}

fn access_token(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Payload {
        access_token: Option<String>,
    }
    serde_json::from_str::<Payload>(text).ok()?.access_token
}

fn broadcast(text: &str) -> Result<Received, ParseError> {
    #[derive(Deserialize)]
    struct Payload<'a> {
        event: String,
        #[serde(default, borrow)]
        payload: Option<&'a RawValue>,
    }
    let Payload { event, payload } = serde_json::from_str(text)
        .map_err(|_| ParseError::Malformed("a broadcast needs an event"))?;
    let body = match payload {
        Some(payload) => payload.to_owned(),
        None => RawValue::from_string("{}".to_owned()).expect("JSON"),
    };
    Ok(Received::Broadcast {
        event,
        body: Body::Json(body),
    })
}

fn presence(text: &str) -> Result<Received, ParseError> {
    #[derive(Deserialize)]
    struct Payload<'a> {
        event: String,
        #[serde(default, borrow)]
        payload: Option<&'a RawValue>,
    }
    let Payload { event, payload } = serde_json::from_str(text)
        .map_err(|_| ParseError::Malformed("a presence message needs an event"))?;
    match event.to_ascii_lowercase().as_str() {
        "track" => Ok(Received::Track(match payload {
            Some(payload) => payload.to_owned(),
            None => RawValue::from_string("{}".to_owned()).expect("JSON"),
        })),
        "untrack" => Ok(Received::Untrack),
        _ => Err(ParseError::Malformed(
            "a presence message is track or untrack",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_serializers_read_the_same() {
        let v2 = Incoming::from_text(
            Version::V2,
            r#"["1","2","realtime:room","broadcast",{"type":"broadcast","event":"move","payload":{"x":1.10}}]"#,
        )
        .unwrap();
        let v1 = Incoming::from_text(
            Version::V1,
            r#"{"topic":"realtime:room","event":"broadcast","payload":{"type":"broadcast","event":"move","payload":{"x":1.10}},"ref":"2","join_ref":"1"}"#,
        )
        .unwrap();
        for message in [v1, v2] {
            assert_eq!(message.join_ref.as_deref(), Some("1"));
            assert_eq!(message.reference.as_deref(), Some("2"));
            assert_eq!(message.topic, "realtime:room");
            let Received::Broadcast {
                event,
                body: Body::Json(body),
            } = message.received
            else {
                panic!("not a broadcast")
            };
            assert_eq!((&event[..], body.get()), ("move", r#"{"x":1.10}"#));
        }
    }

    #[test]
    fn a_heartbeat_needs_no_join() {
        let text = r#"[null,"7","phoenix","heartbeat",{}]"#;
        let message = Incoming::from_text(Version::V2, text).unwrap();
        assert!(matches!(message.received, Received::Heartbeat));
        assert_eq!(message.join_ref, None);
    }

    #[test]
    fn presence_is_track_or_untrack() {
        let read = |payload: &str| {
            let text = format!(r#"["1","2","realtime:room","presence",{payload}]"#);
            Incoming::from_text(Version::V2, &text).map(|message| message.received)
        };
        assert!(matches!(
            read(r#"{"type":"presence","event":"track","payload":{"a":1}}"#),
            Ok(Received::Track(_))
        ));
        assert!(matches!(
            read(r#"{"type":"presence","event":"untrack"}"#),
            Ok(Received::Untrack)
        ));
        assert!(read(r#"{"event":"leave"}"#).is_err());
    }

    #[test]
    fn what_is_not_a_message_is_refused() {
        for text in [
            "",
            "{",
            "[]",
            r#"["1"]"#,
            r#"{"topic":"t"}"#,
            r#"[1,2,3,4,5]"#,
        ] {
            assert!(Incoming::from_text(Version::V2, text).is_err(), "{text}");
        }
        let long = "1".repeat(MAX_REFERENCE + 1);
        for references in [format!(r#""{long}","1""#), format!(r#""1","{long}""#)] {
            let text = format!(r#"[{references},"realtime:room","phx_join",{{}}]"#);
            assert!(Incoming::from_text(Version::V2, &text).is_err());
        }
        assert!(Incoming::from_text(Version::V1, r#"["1","2","t","e",{}]"#).is_err());
    }
}
