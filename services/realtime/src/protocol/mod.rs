//! Phoenix channels as supabase-js speaks them: serializers 1.0.0 (JSON objects) and 2.0.0 (JSON arrays, and binary frames for
//! broadcasts). Facts: the source of `@supabase/realtime-js`, `src/lib/serializer.ts`, and of `@supabase/phoenix`.

mod binary;
mod incoming;
mod join;
mod outgoing;

pub use incoming::{Incoming, ParseError, Received};
pub use join::{JoinPayload, Replay};
pub use outgoing::{Broadcast, Frame, Reply, Sender};

use bytes::Bytes;
use serde_json::value::RawValue;

/// The serializer of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `vsn=1.0.0`, also when none is named.
    V1,
    /// `vsn=2.0.0`.
    V2,
}

impl Version {
    /// By the query parameter `vsn`. None for a version that is not served.
    pub fn of(vsn: Option<&str>) -> Option<Self> {
        match vsn {
            None | Some("" | "1.0.0") => Some(Self::V1),
            Some("2.0.0") => Some(Self::V2),
            Some(_) => None,
        }
    }
}

/// What a broadcast carries. It is passed on unread.
#[derive(Debug, Clone)]
pub enum Body {
    /// JSON text.
    Json(Box<RawValue>),
    /// Bytes, which only serializer 2.0.0 can carry.
    Bytes(Bytes),
}

impl Body {
    /// Its bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Json(json) => json.get().len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The topic that joins a caller's own user and organizations.
pub const ME: &str = "me";

/// Bytes of a bare topic: as long as a name that the client can write into a binary frame, with its prefix.
const MAX_TOPIC: usize = 240;

/// What is wrong with the bare topic of a channel that a client names. Topics of messages from SQL have no limit: nobody can join
/// a longer one.
pub fn topic_problem(topic: &str) -> Option<String> {
    if topic.is_empty() {
        return Some("InvalidTopic: a topic has a name".to_owned());
    }
    let problem = || format!("InvalidTopic: a topic has at most {MAX_TOPIC} bytes");
    (topic.len() > MAX_TOPIC).then(problem)
}

/// Topics of channels have this prefix on the socket, and nowhere else.
const TOPIC_PREFIX: &str = "realtime:";

/// The topic of a channel as SQL and HTTP name it.
pub fn bare_topic(topic: &str) -> Option<&str> {
    topic.strip_prefix(TOPIC_PREFIX)
}

/// The topic of a channel as the socket names it.
pub fn socket_topic(topic: &str) -> String {
    format!("{TOPIC_PREFIX}{topic}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_1_to_240_bytes() {
        assert!(topic_problem("").is_some());
        for (count, fits) in [(1, true), (120, true), (121, false)] {
            assert_eq!(topic_problem(&"é".repeat(count)).is_none(), fits, "{count}");
        }
    }
}
