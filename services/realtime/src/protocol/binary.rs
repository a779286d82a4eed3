//! Binary frames of serializer 2.0.0. Lengths are counts of UTF-8 bytes, one byte each.
//!
//! ```text
//! kind 3, from the client:  3 | join_ref | ref | topic | event | metadata | encoding (these: lengths, one byte each)
//!                           join_ref ref topic event metadata payload
//! kind 4, to the client:    4 | topic | event | metadata | encoding
//!                           topic event metadata payload
//! ```

use bytes::{BufMut, Bytes, BytesMut};

use super::{Body, ParseError};

const USER_BROADCAST_PUSH: u8 = 3;
const USER_BROADCAST: u8 = 4;
const BYTES: u8 = 0;
const JSON: u8 = 1;

/// A broadcast that a client pushes.
#[derive(Debug)]
pub(super) struct Push {
    pub join_ref: Option<String>,
    pub reference: Option<String>,
    pub topic: String,
    pub event: String,
    pub body: Body,
}

/// Reads a frame of kind 3, the only one that clients send.
pub(super) fn read(frame: &Bytes) -> Result<Push, ParseError> {
    let [
        kind,
        join_ref,
        reference,
        topic,
        event,
        metadata,
        encoding,
        ..,
    ] = frame[..]
    else {
        return Err(ParseError::Malformed("a binary frame is too short"));
    };
    if kind != USER_BROADCAST_PUSH {
        return Err(ParseError::Malformed(
            "a binary frame is of an unknown kind",
        ));
    }
    let mut rest = frame.slice(7..);
    let mut text = |length: u8| -> Result<String, ParseError> {
        let length = usize::from(length);
        if rest.len() < length {
            return Err(ParseError::Malformed(
                "a binary frame is shorter than it says",
            ));
        }
        let part = rest.split_to(length);
        String::from_utf8(part.into())
            .map_err(|_| ParseError::Malformed("a binary frame is not UTF-8"))
    };
    let some = |text: String| (!text.is_empty()).then_some(text);
    let (join_ref, reference) = (some(text(join_ref)?), some(text(reference)?));
    let (topic, event) = (text(topic)?, text(event)?);
    text(metadata)?;
    let body = match encoding {
        BYTES => Body::Bytes(rest),
        JSON => Body::Json(
            serde_json::from_slice(&rest)
                .map_err(|_| ParseError::Malformed("a broadcast is not JSON"))?,
        ),
        _ => return Err(ParseError::Malformed("a broadcast has an unknown encoding")),
    };
    Ok(Push {
        join_ref,
        reference,
        topic,
        event,
        body,
    })
}

/// Writes a frame of kind 4. None when a part is longer than a length can say.
pub(super) fn write(topic: &str, event: &str, metadata: &str, body: &Body) -> Option<Bytes> {
    let (encoding, payload) = match body {
        Body::Bytes(bytes) => (BYTES, &bytes[..]),
        Body::Json(json) => (JSON, json.get().as_bytes()),
    };
    let parts = [topic, event, metadata];
    let mut frame =
        BytesMut::with_capacity(5 + topic.len() + event.len() + metadata.len() + payload.len());
    frame.put_u8(USER_BROADCAST);
    for part in parts {
        frame.put_u8(part.len().try_into().ok()?);
    }
    frame.put_u8(encoding);
    for part in parts {
        frame.put_slice(part.as_bytes());
    }
    frame.put_slice(payload);
    Some(frame.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(encoding: u8, payload: &[u8]) -> Bytes {
        let mut frame = vec![3, 1, 2, 13, 4, 0, encoding];
        frame.extend_from_slice(b"112realtime:roommove");
        frame.extend_from_slice(payload);
        frame.into()
    }

    #[test]
    fn a_push_of_json_is_read() {
        let push = read(&push(JSON, br#"{"x": 1.10}"#)).unwrap();
        assert_eq!(
            (push.join_ref.as_deref(), push.reference.as_deref()),
            (Some("1"), Some("12"))
        );
        assert_eq!(
            (&push.topic[..], &push.event[..]),
            ("realtime:room", "move")
        );
        let Body::Json(json) = push.body else {
            panic!("not JSON")
        };
        assert_eq!(json.get(), r#"{"x": 1.10}"#);
    }

    #[test]
    fn a_push_of_bytes_is_read() {
        let push = read(&push(BYTES, &[0, 255])).unwrap();
        assert!(matches!(push.body, Body::Bytes(bytes) if bytes[..] == [0, 255]));
    }

    #[test]
    fn a_malformed_push_is_refused() {
        let whole = push(JSON, b"1");
        for length in 0..whole.len() {
            assert!(read(&whole.slice(..length)).is_err(), "{length}");
        }
        assert!(read(&push(2, b"1")).is_err());
        assert!(read(&push(JSON, b"{")).is_err());
        let mut other = whole.to_vec();
        other[0] = 4;
        assert!(read(&other.into()).is_err());
        let mut not_utf8 = whole.to_vec();
        not_utf8[10] = 255;
        assert!(read(&not_utf8.into()).is_err());
    }

    #[test]
    fn a_broadcast_is_written_as_the_client_reads_it() {
        let body = Body::Json(serde_json::from_str("[1]").unwrap());
        let frame = write("realtime:room", "move", "{}", &body).unwrap();
        assert_eq!(&frame[..], b"\x04\x0d\x04\x02\x01realtime:roommove{}[1]");
        assert!(write(&"t".repeat(256), "e", "", &body).is_none());
    }
}
