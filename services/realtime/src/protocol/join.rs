//! The payload of `phx_join`. As upstream, what cannot be read counts as not given: members may be missing, null, or booleans
//! as text.

use serde_json::Value;

/// Messages of a private channel from the past, asked for at its join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replay {
    /// Milliseconds since 1970.
    pub since: i64,
    /// How many, at most 1,000.
    pub limit: i64,
}

/// How many messages are replayed to a client that does not say.
const DEFAULT_REPLAY: i64 = 25;
/// The most. Upstream's is 25, which is less than what a busy channel sends while a client reconnects.
const MAX_REPLAY: i64 = 1_000;

/// What a client asks for when it joins.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JoinPayload {
    /// The token of the channel; the socket's when there is none.
    pub access_token: Option<String>,
    /// Whether policies on `realtime.messages` decide.
    pub private: bool,
    /// Whether each broadcast is answered.
    pub ack: bool,
    /// Whether its own broadcasts come back.
    pub own: bool,
    /// What is replayed.
    pub replay: Option<Replay>,
    /// Whether presence is sent.
    pub presence: bool,
    /// Its key of presence; empty: the server makes one.
    pub presence_key: String,
    /// Bindings to changes of tables, as they were sent.
    pub postgres_changes: Vec<Value>,
}

impl JoinPayload {
    /// Reads a payload. Nothing in it is an error.
    pub fn read(text: &str) -> Self {
        let payload: Value = serde_json::from_str(text).unwrap_or(Value::Null);
        let config = &payload["config"];
        let (broadcast, presence) = (&config["broadcast"], &config["presence"]);
        let presence_key = presence["key"].as_str().unwrap_or_default().to_owned();
        Self {
            access_token: payload["access_token"].as_str().map(str::to_owned),
            private: flag(&config["private"]),
            ack: flag(&broadcast["ack"]),
            own: flag(&broadcast["self"]),
            replay: replay(&broadcast["replay"]),
            // Clients from before `enabled` name a key when they use presence.
            presence: match &presence["enabled"] {
                Value::Null => !presence_key.is_empty(),
                enabled => flag(enabled),
            },
            presence_key,
            postgres_changes: config["postgres_changes"]
                .as_array()
                .cloned()
                .unwrap_or_default(),
        }
    }
}

fn flag(value: &Value) -> bool {
    matches!(value, Value::Bool(true)) || value.as_str() == Some("true")
}

fn replay(value: &Value) -> Option<Replay> {
    Some(Replay {
        since: value["since"].as_i64()?,
        limit: value["limit"]
            .as_i64()
            .unwrap_or(DEFAULT_REPLAY)
            .clamp(1, MAX_REPLAY),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_payload_is_read() {
        let payload = JoinPayload::read(
            r#"{"config": {"broadcast": {"ack": true, "self": "true", "replay": {"since": 1758240000000, "limit": 5000}},
                "presence": {"key": "ada", "enabled": true}, "postgres_changes": [{"event": "*"}], "private": true},
                "access_token": "token"}"#,
        );
        assert_eq!(
            payload,
            JoinPayload {
                access_token: Some("token".to_owned()),
                private: true,
                ack: true,
                own: true,
                replay: Some(Replay {
                    since: 1_758_240_000_000,
                    limit: 1_000
                }),
                presence: true,
                presence_key: "ada".to_owned(),
                postgres_changes: vec![serde_json::json!({"event": "*"})],
            }
        );
    }

    #[test]
    fn what_is_missing_or_wrong_counts_as_not_given() {
        for text in [
            "null",
            "[]",
            "{",
            r#"{"config": null}"#,
            r#"{"config": {"broadcast": 1, "presence": []}}"#,
        ] {
            assert_eq!(JoinPayload::read(text), JoinPayload::default(), "{text}");
        }
    }
}
