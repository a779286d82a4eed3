//! Which other instances are alive, and whose presence is ours to show.

use std::collections::HashSet;

use super::{
    frame::{Present, Topic},
    instance_of,
};
use crate::hub::{Hub, MemberId};

/// The other instances that are alive.
#[derive(Debug, Default)]
pub struct Peers {
    alive: HashSet<i32>,
    /// Those that wrote since the last sign of life. A list of who is alive, read meanwhile, may not have them yet.
    heard: HashSet<i32>,
}

/// What a sign of life has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Instances that are new.
    pub came: Vec<i32>,
    /// Instances that are gone.
    pub gone: Vec<i32>,
}

impl Peers {
    /// These are alive now.
    pub fn set(&mut self, alive: &[i32]) -> Change {
        let heard = std::mem::take(&mut self.heard);
        let alive: HashSet<i32> = alive.iter().copied().chain(heard).collect();
        let change = Change {
            came: alive.difference(&self.alive).copied().collect(),
            gone: self.alive.difference(&alive).copied().collect(),
        };
        self.alive = alive;
        change
    }

    /// This one is alive, too. Whether it is new.
    pub fn add(&mut self, instance: i32) -> bool {
        self.heard.insert(instance);
        self.alive.insert(instance)
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.alive.is_empty()
    }
}

/// Nobody of this instance is present any more.
pub fn forget(hub: &Hub, instance: i32) {
    for (key, member, _) in hub.present(|id| instance_of(id.socket) == instance) {
        hub.untrack_remote(&key, member);
    }
}

/// Exactly these of the instance are present.
pub fn replace(hub: &Hub, instance: i32, state: Vec<Present>) {
    let stays: HashSet<(Topic, MemberId)> = state
        .iter()
        .map(|present| (present.topic.clone(), present.member))
        .collect();
    let known = hub.present(|id| instance_of(id.socket) == instance);
    let mut shown = HashSet::new();
    for (key, member, meta) in known {
        match stays.contains(&(Topic::from(&key), member)) {
            true => {
                shown.insert((member, meta.reference().to_owned()));
            }
            false => hub.untrack_remote(&key, member),
        }
    }
    for Present {
        topic,
        member,
        meta,
    } in state
    {
        let of_sender = instance_of(member.socket) == instance;
        if of_sender && !shown.contains(&(member, meta.reference().to_owned())) {
            hub.track_remote(&topic.key(), member, meta);
        }
    }
}

/// Who is present here.
pub fn own_state(hub: &Hub, instance: i32) -> Vec<Present> {
    let own = hub.present(|id| instance_of(id.socket) == instance);
    own.into_iter()
        .map(|(key, member, meta)| Present {
            topic: Topic::from(&key),
            member,
            meta,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::{
        hub::{Meta, TopicKey},
        relay::{Relay, first_socket},
    };

    fn present(instance: i32, join: u64, meta: &Meta) -> Present {
        Present {
            topic: Topic::from(&TopicKey::new("room", true)),
            member: MemberId {
                socket: first_socket(instance),
                join,
            },
            meta: meta.clone(),
        }
    }

    #[test]
    fn a_state_replaces_what_was_known_of_its_sender() {
        let hub = Hub::new(Relay::alone());
        let meta = Meta::new("ada", &RawValue::from_string("{}".to_owned()).unwrap());
        replace(&hub, 7, vec![present(7, 1, &meta), present(7, 2, &meta)]);
        replace(&hub, 8, vec![present(8, 1, &meta)]);
        replace(&hub, 7, vec![present(7, 2, &meta), present(9, 1, &meta)]);
        let mut joins: Vec<_> = hub
            .present(|_| true)
            .into_iter()
            .map(|(_, id, _)| (instance_of(id.socket), id.join))
            .collect();
        joins.sort_unstable();
        assert_eq!(joins, [(7, 2), (8, 1)]);
        forget(&hub, 7);
        assert_eq!(hub.present(|_| true).len(), 1);
    }

    #[test]
    fn peers_come_and_go() {
        let mut peers = Peers::default();
        assert_eq!(peers.set(&[1]).came, [1]);
        assert_eq!(peers.set(&[2]).gone, [1]);
        assert!(!peers.add(2) && peers.add(3));
        // Read before 3 had written.
        assert_eq!(peers.set(&[2]), Change::default());
        assert_eq!(peers.set(&[2]).gone, [3]);
    }
}
