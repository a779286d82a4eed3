//! Who is present on a topic, in the form that Phoenix' clients merge: `{key: {metas: [{phx_ref, …}]}}`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::MemberId;

/// One presence of a member. Its payload stays the text that was sent: parsed, it could take eighty times its bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Meta {
    key: String,
    phx_ref: String,
    payload: Box<RawValue>,
}

impl Meta {
    /// With a reference of its own.
    pub fn new(key: &str, payload: &RawValue) -> Self {
        Self {
            key: key.to_owned(),
            phx_ref: next_ref(),
            payload: payload.to_owned(),
        }
    }

    /// What tells it from any other.
    pub fn reference(&self) -> &str {
        &self.phx_ref
    }

    /// About what it takes to keep and to send.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.phx_ref.len() + self.payload.get().len()
    }

    /// The payload's members, and the references behind them: of two members with one name, parsers take the last.
    fn value(&self, previous: Option<&str>) -> Box<RawValue> {
        let payload = self.payload.get().trim();
        let members = payload
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
            .unwrap_or_default()
            .trim();
        let mut text = String::with_capacity(payload.len() + 96);
        text.push('{');
        text.push_str(members);
        for (name, reference) in [
            ("phx_ref", Some(self.phx_ref.as_str())),
            ("phx_ref_prev", previous),
        ] {
            let Some(reference) = reference else { continue };
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&format!(
                "\"{name}\":{}",
                serde_json::Value::from(reference)
            ));
        }
        text.push('}');
        RawValue::from_string(text).unwrap_or_else(|_| self.payload.clone())
    }
}

/// Presences by their keys, as in a state.
pub(super) type Entries = BTreeMap<String, Metas>;

/// Presences with one key.
#[derive(Debug, Default, Serialize)]
pub(super) struct Metas {
    metas: Vec<Box<RawValue>>,
}

/// A change: who came and who left, each as in a state.
#[derive(Debug, Serialize)]
pub(super) struct Diff {
    pub joins: Entries,
    pub leaves: Entries,
}

/// What became of a presence.
#[derive(Debug)]
pub(super) enum Tracked {
    /// It is new, or another one than before.
    Changed(Meta, Diff),
    /// It was the same before.
    Same,
    /// The topic has no room for it.
    Full,
}

/// The presences of a topic, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Presence {
    metas: HashMap<MemberId, Meta>,
    order: Vec<MemberId>,
    bytes: usize,
}

impl Presence {
    /// Everybody.
    pub fn state(&self) -> Entries {
        let mut state = Entries::new();
        for meta in self.order.iter().filter_map(|id| self.metas.get(id)) {
            let entry = state.entry(meta.key.clone()).or_default();
            entry.metas.push(meta.value(None));
        }
        state
    }

    /// A member is present with this payload, if all together have at most so many bytes.
    pub fn track(&mut self, id: MemberId, key: &str, payload: &RawValue, most: usize) -> Tracked {
        let former = self.metas.get(&id);
        if former.is_some_and(|former| former.payload.get() == payload.get()) {
            return Tracked::Same;
        }
        let key = former.map_or(key, |former| &former.key);
        let meta = Meta::new(key, payload);
        if self.bytes - former.map_or(0, Meta::bytes) + meta.bytes() > most {
            return Tracked::Full;
        }
        let diff = self.put(id, meta.clone());
        Tracked::Changed(meta, diff)
    }

    /// A member of another instance is present. None if that is known: a state and a change may both say so. Its instance has
    /// looked whether there is room.
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
        self.bytes += meta.bytes();
        let former = self.metas.insert(id, meta.clone());
        match &former {
            Some(former) => self.bytes -= former.bytes(),
            None => self.order.push(id),
        }
        let previous = former.as_ref().map(|former| former.phx_ref.as_str());
        Diff {
            joins: entry(&meta.key, meta.value(previous)),
            leaves: former.as_ref().map_or_else(Entries::new, |former| {
                entry(&former.key, former.value(None))
            }),
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
        self.bytes -= meta.bytes();
        self.order.retain(|other| *other != id);
        Some(Diff {
            joins: Entries::new(),
            leaves: entry(&meta.key, meta.value(None)),
        })
    }
}

fn entry(key: &str, meta: Box<RawValue>) -> Entries {
    Entries::from([(key.to_owned(), Metas { metas: vec![meta] })])
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
    use serde_json::{Value, json};

    use super::*;

    const ADA: MemberId = MemberId { socket: 1, join: 0 };
    const BOB: MemberId = MemberId { socket: 2, join: 0 };

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    /// As a client reads it.
    fn read(sent: &impl Serialize) -> Value {
        serde_json::from_str(&serde_json::to_string(sent).unwrap()).unwrap()
    }

    fn track(presence: &mut Presence, id: MemberId, key: &str, payload: &str) -> Option<Value> {
        match presence.track(id, key, &raw(payload), 10_000) {
            Tracked::Changed(_, diff) => Some(read(&diff)),
            Tracked::Same => None,
            Tracked::Full => panic!("no room"),
        }
    }

    fn keys(value: &Value) -> Vec<&String> {
        value.as_object().unwrap().keys().collect()
    }

    #[test]
    fn who_comes_joins_and_who_goes_leaves() {
        let mut presence = Presence::default();
        let diff = track(&mut presence, ADA, "ada", r#"{"at": 1}"#).unwrap();
        assert_eq!(diff["joins"]["ada"]["metas"][0]["at"], 1);
        assert_eq!(diff["leaves"], json!({}));
        track(&mut presence, BOB, "bob", "{}");
        assert_eq!(keys(&read(&presence.state())), ["ada", "bob"]);
        let diff = read(&presence.leave(ADA).unwrap());
        assert_eq!(diff["joins"], json!({}));
        assert_eq!(keys(&diff["leaves"]), ["ada"]);
        assert!(presence.leave(ADA).is_none());
        assert_eq!(keys(&read(&presence.state())), ["bob"]);
        presence.leave(BOB);
        assert_eq!(presence.bytes, 0);
    }

    #[test]
    fn two_members_may_share_a_key() {
        let mut presence = Presence::default();
        track(&mut presence, ADA, "team", r#"{"n": 1}"#);
        track(&mut presence, BOB, "team", r#"{"n": 2}"#);
        let state = read(&presence.state());
        let metas = state["team"]["metas"].as_array().unwrap();
        let numbers: Vec<_> = metas.iter().map(|meta| meta["n"].as_i64()).collect();
        assert_eq!(numbers, [Some(1), Some(2)]);
    }

    #[test]
    fn tracking_again_replaces_and_names_the_former() {
        let mut presence = Presence::default();
        let first = track(&mut presence, ADA, "ada", r#"{"at": 1}"#).unwrap();
        assert!(track(&mut presence, ADA, "ada", r#"{"at": 1}"#).is_none());
        let second = track(&mut presence, ADA, "ada", r#"{"at": 2}"#).unwrap();
        let former = &first["joins"]["ada"]["metas"][0]["phx_ref"];
        assert_eq!(&second["joins"]["ada"]["metas"][0]["phx_ref_prev"], former);
        assert_eq!(&second["leaves"]["ada"]["metas"][0]["phx_ref"], former);
    }

    #[test]
    fn references_are_ours_whatever_was_sent() {
        for (payload, members) in [
            ("{}", 1),
            (" { } ", 1),
            (r#"{"phx_ref": "mine"}"#, 1),
            (r#"{"at": {"x": "}"}}"#, 2),
            ("7", 1),
            (r#"["x"]"#, 1),
            ("null", 1),
        ] {
            let meta = Meta::new("ada", &raw(payload));
            let value = read(&meta.value(None));
            assert_eq!(value["phx_ref"], meta.phx_ref, "{payload}");
            assert_eq!(value.as_object().unwrap().len(), members, "{payload}");
        }
    }

    #[test]
    fn all_together_have_room_for_some_bytes() {
        let mut presence = Presence::default();
        let payload = raw(&format!(r#"{{"x":"{}"}}"#, "x".repeat(400)));
        let most = 1_000;
        let mut tracked = |id| presence.track(id, "k", &payload, most);
        assert!(matches!(tracked(ADA), Tracked::Changed(..)));
        assert!(matches!(tracked(BOB), Tracked::Changed(..)));
        let third = MemberId { socket: 3, join: 0 };
        assert!(matches!(tracked(third), Tracked::Full));
        // Who is there may change what it says, and makes room when it goes.
        let smaller = presence.track(ADA, "k", &raw("{}"), most);
        assert!(matches!(smaller, Tracked::Changed(..)));
        let now = presence.track(third, "k", &payload, most);
        assert!(matches!(now, Tracked::Changed(..)));
        assert!(presence.bytes <= most);
    }

    #[test]
    fn what_another_instance_says_twice_changes_nothing() {
        let mut presence = Presence::default();
        let meta = Meta::new("ada", &raw("{}"));
        assert!(presence.put_remote(ADA, meta.clone()).is_some());
        assert!(presence.put_remote(ADA, meta).is_none());
        let next = Meta::new("ada", &raw("{}"));
        assert!(presence.put_remote(ADA, next).is_some());
    }
}
