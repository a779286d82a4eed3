//! Who is present on a topic, in the form that Phoenix' clients merge: `{key: {metas: [{phx_ref, …}]}}`.

use std::{
    collections::HashMap,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::MemberId;

/// One presence of a member.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Meta {
    key: String,
    phx_ref: String,
    payload: Map<String, Value>,
}

impl Meta {
    /// With a reference of its own.
    pub fn new(key: &str, payload: &Value) -> Self {
        Self {
            key: key.to_owned(),
            phx_ref: next_ref(),
            payload: payload.as_object().cloned().unwrap_or_default(),
        }
    }

    /// What tells it from any other.
    pub fn reference(&self) -> &str {
        &self.phx_ref
    }

    fn value(&self, previous: Option<&str>) -> Value {
        let mut meta = self.payload.clone();
        meta.insert("phx_ref".to_owned(), Value::from(self.phx_ref.as_str()));
        if let Some(previous) = previous {
            meta.insert("phx_ref_prev".to_owned(), Value::from(previous));
        }
        Value::Object(meta)
    }
}

/// A change: who came and who left, each as in a state.
#[derive(Debug, PartialEq)]
pub(super) struct Diff {
    pub joins: Value,
    pub leaves: Value,
}

/// The presences of a topic, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Presence {
    metas: HashMap<MemberId, Meta>,
    order: Vec<MemberId>,
}

impl Presence {
    /// Everybody.
    pub fn state(&self) -> Value {
        let mut state = Map::new();
        for meta in self.order.iter().filter_map(|id| self.metas.get(id)) {
            let entry = state
                .entry(meta.key.clone())
                .or_insert_with(|| json!({ "metas": [] }));
            if let Some(metas) = entry["metas"].as_array_mut() {
                metas.push(meta.value(None));
            }
        }
        Value::Object(state)
    }

    /// A member is present with this payload. None when nothing changed.
    pub fn track(&mut self, id: MemberId, key: &str, payload: &Value) -> Option<(Meta, Diff)> {
        let former = self.metas.get(&id);
        if former.is_some_and(|former| Some(&former.payload) == payload.as_object()) {
            return None;
        }
        let key = former.map_or(key, |former| &former.key);
        let meta = Meta::new(key, payload);
        let diff = self.put(id, meta.clone());
        Some((meta, diff))
    }

    /// A member of another instance is present. None if that is known: a state and a change may both say so.
    pub fn put_remote(&mut self, id: MemberId, meta: Meta) -> Option<Diff> {
        let known = self.metas.get(&id);
        if known.is_some_and(|known| known.phx_ref == meta.phx_ref) {
            return None;
        }
        Some(self.put(id, meta))
    }

    /// A member is present. If it was before: as upstream, one difference with a join, which names the former reference, and a
    /// leave.
    fn put(&mut self, id: MemberId, meta: Meta) -> Diff {
        let former = self.metas.insert(id, meta.clone());
        if former.is_none() {
            self.order.push(id);
        }
        let previous = former.as_ref().map(|former| former.phx_ref.as_str());
        Diff {
            joins: entry(&meta.key, meta.value(previous)),
            leaves: former.as_ref().map_or_else(
                || json!({}),
                |former| entry(&former.key, former.value(None)),
            ),
        }
    }

    /// Whether nobody is present.
    pub fn is_empty(&self) -> bool {
        self.metas.is_empty()
    }

    /// Everybody whom `wanted` picks.
    pub fn all(&self, wanted: impl Fn(MemberId) -> bool) -> Vec<(MemberId, Meta)> {
        let order = self.order.iter().filter(|id| wanted(**id));
        order
            .filter_map(|id| Some((*id, self.metas.get(id)?.clone())))
            .collect()
    }

    /// A member is no longer present.
    pub fn leave(&mut self, id: MemberId) -> Option<Diff> {
        let meta = self.metas.remove(&id)?;
        self.order.retain(|other| *other != id);
        Some(Diff {
            joins: json!({}),
            leaves: entry(&meta.key, meta.value(None)),
        })
    }
}

fn entry(key: &str, meta: Value) -> Value {
    let mut entry = Map::new();
    entry.insert(key.to_owned(), json!({ "metas": [meta] }));
    Value::Object(entry)
}

/// Unique also among instances: clients compare them.
fn next_ref() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    static INSTANCE: LazyLock<String> = LazyLock::new(|| {
        let random = uuid::Uuid::new_v4().simple().to_string();
        random[..8].to_owned()
    });
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}{next:x}", *INSTANCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: MemberId = MemberId { socket: 1, join: 0 };
    const BOB: MemberId = MemberId { socket: 2, join: 0 };

    fn keys(value: &Value) -> Vec<&String> {
        value.as_object().unwrap().keys().collect()
    }

    #[test]
    fn who_comes_joins_and_who_goes_leaves() {
        let mut presence = Presence::default();
        let (_, diff) = presence.track(ADA, "ada", &json!({ "at": 1 })).unwrap();
        assert_eq!(diff.joins["ada"]["metas"][0]["at"], 1);
        assert_eq!(diff.leaves, json!({}));
        presence.track(BOB, "bob", &json!({}));
        assert_eq!(keys(&presence.state()), ["ada", "bob"]);
        let diff = presence.leave(ADA).unwrap();
        assert_eq!(diff.joins, json!({}));
        assert_eq!(keys(&diff.leaves), ["ada"]);
        assert_eq!(presence.leave(ADA), None);
        assert_eq!(keys(&presence.state()), ["bob"]);
    }

    #[test]
    fn two_members_may_share_a_key() {
        let mut presence = Presence::default();
        presence.track(ADA, "team", &json!({ "n": 1 }));
        presence.track(BOB, "team", &json!({ "n": 2 }));
        let state = presence.state();
        let metas = state["team"]["metas"].as_array().unwrap();
        let numbers: Vec<_> = metas.iter().map(|meta| meta["n"].as_i64()).collect();
        assert_eq!(numbers, [Some(1), Some(2)]);
    }

    #[test]
    fn tracking_again_replaces_and_names_the_former() {
        let mut presence = Presence::default();
        let (_, first) = presence.track(ADA, "ada", &json!({ "at": 1 })).unwrap();
        assert!(presence.track(ADA, "ada", &json!({ "at": 1 })).is_none());
        let (_, second) = presence.track(ADA, "ada", &json!({ "at": 2 })).unwrap();
        let former = &first.joins["ada"]["metas"][0]["phx_ref"];
        assert_eq!(&second.joins["ada"]["metas"][0]["phx_ref_prev"], former);
        assert_eq!(&second.leaves["ada"]["metas"][0]["phx_ref"], former);
    }

    #[test]
    fn what_another_instance_says_twice_changes_nothing() {
        let mut presence = Presence::default();
        let meta = Meta::new("ada", &json!({}));
        assert!(presence.put_remote(ADA, meta.clone()).is_some());
        assert_eq!(presence.put_remote(ADA, meta), None);
        let next = Meta::new("ada", &json!({}));
        assert!(presence.put_remote(ADA, next).is_some());
    }
}
