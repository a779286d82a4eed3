//! A post on its way: what the database says of it, and what the platform has so far.

use std::time::{SystemTime, UNIX_EPOCH};

use kijko_core::secret::Secret;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

/// What is to be done with a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    /// Prepare and create it.
    Publish,
    /// Look whether a create call of unknown outcome has created it.
    Check,
}

/// A post, with the token of its account.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Post {
    pub action: Action,
    pub org_id: Uuid,
    pub platform: String,
    pub text: String,
    pub media: Vec<Media>,
    pub connection_id: Option<Uuid>,
    #[serde(default, deserialize_with = "or_empty")]
    pub account_id: String,
    pub generation: Option<i32>,
    pub access_token: Option<Secret>,
    pub prepared: Value,
    pub create_id: Option<Uuid>,
    pub create_started_at: Option<u64>,
    #[serde(default)]
    pub known_ids: Vec<String>,
}

/// An image.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Media {
    pub path: String,
    pub alt_text: String,
    pub content_type: String,
    pub url: String,
}

fn or_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::<String>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Clocks of platforms may differ.
const SKEW_SECONDS: u64 = 60;

pub(super) fn now_seconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

impl Post {
    /// A post that was created by our call is not older than this, in seconds since 1970.
    pub(super) fn since(&self) -> u64 {
        let started = self.create_started_at.unwrap_or_default();
        started.saturating_sub(SKEW_SECONDS)
    }

    /// The same as ISO 8601.
    pub(super) fn not_before(&self) -> String {
        let since = i64::try_from(self.since()).unwrap_or_default();
        jiff::Timestamp::from_second(since)
            .unwrap_or_default()
            .to_string()
    }

    /// Whether a time of a platform, such as `2026-11-29T16:21:27+0000`, is before our call.
    pub(super) fn is_before(&self, at: &str) -> bool {
        let at = jiff::fmt::strtime::parse("%Y-%m-%dT%H:%M:%S%z", at);
        let at = at.and_then(|at| at.to_timestamp());
        at.is_ok_and(|at| u64::try_from(at.as_second()).unwrap_or_default() < self.since())
    }

    /// Whether an id at the platform is that of another post of ours.
    pub(super) fn knows(&self, id: &Value) -> bool {
        id.as_str()
            .is_some_and(|id| self.known_ids.iter().any(|known| known == id))
    }
}

/// A post that a platform has.
#[derive(Debug, Default)]
pub(super) struct Created {
    pub id: Option<String>,
    pub url: Option<String>,
    pub status: Option<u16>,
}

/// What a look at a platform has shown.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// The post, if it is there.
    pub created: Option<Created>,
    /// Posts that were read: X charges for each.
    pub reads: i32,
}

impl From<Option<Created>> for Look {
    fn from(created: Option<Created>) -> Self {
        Self { created, reads: 0 }
    }
}

/// An image with its bytes.
pub(super) struct Image<'a> {
    pub media: &'a Media,
    pub bytes: Vec<u8>,
}

/// What a platform holds for a post that is not created yet.
pub(super) struct Prepared(Value);

impl Prepared {
    pub(super) fn new(value: Value) -> Self {
        Self(match value.is_object() {
            true => value,
            false => json!({}),
        })
    }

    /// The uploaded media, in order.
    pub(super) fn media(&self) -> Vec<&str> {
        let media = self.0["media"].as_array();
        media.map_or_else(Vec::new, |all| {
            all.iter().filter_map(Value::as_str).collect()
        })
    }

    pub(super) fn add_media(&mut self, id: String) {
        match self.0["media"].as_array_mut() {
            Some(media) => media.push(id.into()),
            None => self.0["media"] = json!([id]),
        }
    }

    /// The container of Instagram that is to be published.
    pub(super) fn container(&self) -> Option<&str> {
        self.0["container"].as_str()
    }

    pub(super) fn set_container(&mut self, id: String) {
        self.0["container"] = id.into();
    }

    /// What was prepared is not usable any more.
    pub(super) fn clear(&mut self) {
        self.0 = json!({});
    }

    pub(super) fn value(&self) -> &Value {
        &self.0
    }
}

/// Texts as platforms give them back: blanks at the ends and line ends may differ. A post without a text is recognised by nothing:
/// another one may have an image only, too.
pub(super) fn is_same(ours: &str, theirs: &str) -> bool {
    let words =
        |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
    !words(ours).is_empty() && words(ours) == words(theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_post_is_recognised_by_its_words() {
        assert!(is_same("a  b\n", "a b"));
        assert!(!is_same("a b", "a c"));
        assert!(!is_same("", ""));
        assert!(!is_same(" ", "\n"));
    }
}
