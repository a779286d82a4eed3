//! Who listens to what: topics, their members, and presence. All in memory: a socket that is lost joins again.

mod member;
mod outbox;
mod presence;
#[cfg(test)]
mod tests;
mod topic;

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::value::RawValue;
use uuid::Uuid;

pub use member::{Member, MemberId, Replaying};
pub use outbox::{Inbox, Outbox, Outgoing};
pub use presence::Meta;
use topic::Behind;
pub use topic::{NoRoom, Topic};

use crate::{
    protocol::Broadcast,
    relay::{Relay, Relayed},
};

/// A channel's name. Public and private channels of one name are apart, as upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TopicKey {
    /// Whether policies decide who joins.
    pub private: bool,
    /// The bare topic.
    pub name: Arc<str>,
}

impl TopicKey {
    /// Of a bare topic.
    pub fn new(name: &str, private: bool) -> Self {
        Self {
            private,
            name: name.into(),
        }
    }
}

/// Locks are held for one look-up, so that a few shards serve many sockets.
const SHARDS: usize = 64;

type Topics = HashMap<TopicKey, Arc<Topic>>;

/// All topics that somebody has joined.
#[derive(Debug)]
pub struct Hub {
    shards: Vec<Mutex<Topics>>,
    hasher: RandomState,
    relay: Relay,
    looks: AtomicU64,
}

impl Hub {
    /// Without topics; what sockets send also goes to other instances.
    pub fn new(relay: Relay) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            relay,
            looks: AtomicU64::new(0),
        }
    }

    fn shard(&self, key: &TopicKey) -> MutexGuard<'_, Topics> {
        let hash = self.hasher.hash_one(key) as usize;
        lock(&self.shards[hash % SHARDS])
    }

    /// Adds a member. The topic is made when it is the first.
    pub fn join(&self, key: &TopicKey, member: Member) -> Arc<Topic> {
        let mut shard = self.shard(key);
        let topic = shard.entry(key.clone()).or_default().clone();
        topic.add(member);
        topic
    }

    /// Removes a member and its presence. The topic goes with the last one.
    pub fn leave(&self, key: &TopicKey, id: MemberId) {
        let was_present = self.remove(key, |topic| topic.remove(&key.name, id));
        if was_present {
            self.relay.send(|| Relayed::untrack(key, id));
        }
    }

    /// Ends a presence of a topic, and drops the topic if nobody is left.
    fn remove(&self, key: &TopicKey, change: impl FnOnce(&Topic) -> (bool, Behind)) -> bool {
        let mut shard = self.shard(key);
        let Some(topic) = shard.get(key) else {
            return false;
        };
        let (changed, behind) = change(topic);
        catch_up(key, topic, behind);
        if topic.is_empty() {
            shard.remove(key);
        }
        changed
    }

    /// The topic, if anybody has joined it.
    pub fn topic(&self, key: &TopicKey) -> Option<Arc<Topic>> {
        self.shard(key).get(key).cloned()
    }

    /// Sends to every member on this instance. Returns how many there were.
    pub fn broadcast(&self, key: &TopicKey, message: &Arc<Broadcast>) -> usize {
        self.topic(key)
            .map_or(0, |topic| topic.broadcast(message, None))
    }

    /// Sends a client's message to every member of every instance, except one if it is named.
    pub fn broadcast_everywhere(
        &self,
        key: &TopicKey,
        message: &Arc<Broadcast>,
        except: Option<MemberId>,
    ) {
        if let Some(topic) = self.topic(key) {
            topic.broadcast(message, except);
        }
        self.relay.send(|| Relayed::broadcast(key, message));
    }

    /// Makes a member present, here and for other instances, if all presences of the topic have at most `most` bytes. The shard stays
    /// locked, so that changes leave in their order.
    pub fn track(
        &self,
        key: &TopicKey,
        topic: &Arc<Topic>,
        id: MemberId,
        presence: &str,
        payload: &RawValue,
        most: usize,
    ) -> Result<(), NoRoom> {
        let _ordered = self.shard(key);
        let (meta, behind) = topic.track(&key.name, id, presence, payload, most)?;
        catch_up(key, topic, behind);
        if let Some(meta) = meta {
            self.relay.send(|| Relayed::track(key, id, meta));
        }
        Ok(())
    }

    /// Ends a member's presence, here and for other instances.
    pub fn untrack(&self, key: &TopicKey, topic: &Arc<Topic>, id: MemberId) {
        let _ordered = self.shard(key);
        let (was_present, behind) = topic.untrack(&key.name, id);
        catch_up(key, topic, behind);
        if was_present {
            self.relay.send(|| Relayed::untrack(key, id));
        }
    }

    /// A member of another instance is present.
    pub fn track_remote(&self, key: &TopicKey, id: MemberId, meta: Meta) {
        let mut shard = self.shard(key);
        let topic = shard.entry(key.clone()).or_default().clone();
        let behind = topic.track_remote(&key.name, id, meta);
        catch_up(key, &topic, behind);
    }

    /// A member of another instance is no longer present.
    pub fn untrack_remote(&self, key: &TopicKey, id: MemberId) {
        self.remove(key, |topic| topic.untrack(&key.name, id));
    }

    /// Everybody present whom `wanted` picks, on all topics.
    pub fn present(&self, wanted: impl Fn(MemberId) -> bool) -> Vec<(TopicKey, MemberId, Meta)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            for (key, topic) in lock(shard).iter() {
                let present = topic.present(&wanted).into_iter();
                all.extend(present.map(|(id, meta)| (key.clone(), id, meta)));
            }
        }
        all
    }

    /// A look for messages from SQL begins. Returns its number.
    pub fn begin_look(&self) -> u64 {
        self.looks.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The replay to a member has ended.
    pub fn end_replay(&self, topic: &Topic, id: MemberId, replayed: HashSet<Uuid>) {
        topic.end_replay(id, replayed, self.looks.load(Ordering::SeqCst));
    }

    /// How many topics have members.
    pub fn topics(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }
}

/// Members that have missed a difference of presence get the state when they have room again.
fn catch_up(key: &TopicKey, topic: &Arc<Topic>, behind: Behind) {
    for (id, outbox) in behind {
        tokio::spawn(topic.clone().catch_up(key.name.clone(), id, outbox));
    }
}

/// A panic while a lock was held leaves a whole map: each change is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
