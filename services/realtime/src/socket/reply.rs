//! What a socket answers.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{channel::Channel, connection::Connection};
use crate::{
    authorize::AuthorizeError,
    hub::Outgoing,
    protocol::{Frame, Reply},
};

/// How a message's answer is addressed.
pub(super) struct ReplyTo {
    pub join_ref: Option<String>,
    pub reference: Option<String>,
    pub topic: String,
}

impl Connection {
    /// Answers a message.
    pub(super) fn reply(&self, to: &ReplyTo, reply: Reply) {
        self.send(&Frame {
            join_ref: to.join_ref.as_deref(),
            reference: to.reference.as_deref(),
            topic: &to.topic,
            event: "phx_reply",
            payload: reply.payload(),
        });
    }

    /// Refuses a message, and says why.
    pub(super) fn refuse(&self, to: &ReplyTo, reason: impl Into<String>) {
        self.reply(
            to,
            Reply::Error {
                reason: reason.into(),
            },
        );
    }

    /// An event of the channel.
    pub(super) fn event(&self, topic: &str, channel: &Channel, event: &str, payload: Value) {
        let join_ref = channel.join_ref.as_deref();
        self.send(&Frame {
            join_ref,
            reference: join_ref.filter(|_| event.starts_with("phx_")),
            topic,
            event,
            payload,
        });
    }

    /// A `system` event of the channel.
    pub(super) fn system(&self, topic: &str, channel: &Channel, status: &str, message: &str) {
        let name = crate::protocol::bare_topic(topic).unwrap_or(topic);
        let payload =
            json!({ "extension": "system", "status": status, "message": message, "channel": name });
        self.event(topic, channel, "system", payload);
    }

    fn send(&self, frame: &Frame<'_>) {
        self.outbox
            .send(Outgoing::Frame(frame.encode(self.version)));
    }
}

/// `Code: why`, as a client sees it.
pub fn reason(error: &AuthorizeError) -> String {
    if let AuthorizeError::Database(cause) = error {
        tracing::warn!(%cause, "the policies could not be asked");
    }
    error.to_string()
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    since.as_secs() as i64
}
