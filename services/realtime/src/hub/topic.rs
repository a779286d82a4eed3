//! One topic: its members and who is present.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use axum::extract::ws::Message;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    lock,
    member::{Member, MemberId},
    outbox::{Offered, Outbox, Outgoing},
    presence::{Diff, Meta, Presence, Tracked},
};
use crate::protocol::{Broadcast, Frame, Version, socket_topic};

/// Members that have missed a difference of presence, and their outboxes.
pub(super) type Behind = Vec<(MemberId, Outbox)>;

/// A topic's presences have no room for another one.
#[derive(Debug, PartialEq, Eq)]
pub struct NoRoom;

/// One topic.
#[derive(Debug, Default)]
pub struct Topic {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    members: HashMap<MemberId, Member>,
    presence: Presence,
}

impl Topic {
    pub(super) fn add(&self, member: Member) {
        lock(&self.state).members.insert(member.id, member);
    }

    /// Removes a member. Whether it was present, and who is behind.
    pub(super) fn remove(&self, name: &str, id: MemberId) -> (bool, Behind) {
        lock(&self.state).members.remove(&id);
        self.untrack(name, id)
    }

    /// Whether nobody is left, here or, by presence, elsewhere.
    pub(super) fn is_empty(&self) -> bool {
        let state = lock(&self.state);
        state.members.is_empty() && state.presence.is_empty()
    }

    /// Sends to every member but `except`.
    pub(super) fn broadcast(&self, message: &Arc<Broadcast>, except: Option<MemberId>) -> usize {
        let mut state = lock(&self.state);
        let mut sent = 0;
        for member in state.members.values_mut() {
            if member.hears_broadcasts && Some(member.id) != except {
                member.deliver(message);
                sent += 1;
            }
        }
        sent
    }

    /// The replay to a member has ended.
    pub(super) fn end_replay(&self, id: MemberId, replayed: HashSet<Uuid>, look: u64) {
        if let Some(member) = lock(&self.state).members.get_mut(&id) {
            member.end_replay(replayed, look);
        }
    }

    /// Sends a member who is present, also when nobody is: the client holds differences back until it arrives.
    pub fn send_presence_state(&self, name: &str, id: MemberId) {
        let state = lock(&self.state);
        if let Some(member) = state.members.get(&id)
            && member.hears_presence
        {
            member.send_event(name, "presence_state", state.presence.state());
        }
    }

    /// Makes a member of this instance present with this payload, and notifies the others; those that are behind. The meta is none
    /// when nothing changed.
    pub(super) fn track(
        &self,
        name: &str,
        id: MemberId,
        key: &str,
        payload: &RawValue,
        most: usize,
    ) -> Result<(Option<Meta>, Behind), NoRoom> {
        let mut state = lock(&self.state);
        if !state.members.contains_key(&id) {
            return Ok((None, Vec::new()));
        }
        match state.presence.track(id, key, payload, most) {
            Tracked::Changed(meta, diff) => Ok((Some(meta), state.announce(name, &diff))),
            Tracked::Same => Ok((None, Vec::new())),
            Tracked::Full => Err(NoRoom),
        }
    }

    /// Makes a member of another instance present.
    pub(super) fn track_remote(&self, name: &str, id: MemberId, meta: Meta) -> Behind {
        let mut state = lock(&self.state);
        let diff = state.presence.put_remote(id, meta);
        diff.map_or_else(Vec::new, |diff| state.announce(name, &diff))
    }

    /// Ends a member's presence, and notifies the others. Whether it was present, and who is behind.
    pub(super) fn untrack(&self, name: &str, id: MemberId) -> (bool, Behind) {
        let mut state = lock(&self.state);
        match state.presence.leave(id) {
            Some(diff) => (true, state.announce(name, &diff)),
            None => (false, Vec::new()),
        }
    }

    /// Sends the state to a member that has missed differences, when it has room.
    pub(super) async fn catch_up(self: Arc<Self>, name: Arc<str>, id: MemberId, outbox: Outbox) {
        loop {
            outbox.room().await;
            if self.offer_presence_state(&name, id) {
                return;
            }
            outbox.pause().await;
        }
    }

    /// Whether the member has it, or needs it no more.
    fn offer_presence_state(&self, name: &str, id: MemberId) -> bool {
        let state = &mut *lock(&self.state);
        let Some(member) = state.members.get_mut(&id) else {
            return true;
        };
        let frame = member.event(name, "presence_state", state.presence.state());
        member.is_behind = member.outbox.offer(frame) != Offered::Taken;
        !member.is_behind
    }

    /// Everybody present whom `wanted` picks.
    pub(super) fn present(&self, wanted: impl Fn(MemberId) -> bool) -> Vec<(MemberId, Meta)> {
        lock(&self.state).presence.all(wanted)
    }

    /// What policies let a member receive from now on.
    pub fn set_hearing(&self, id: MemberId, broadcasts: bool, presence: bool) {
        if let Some(member) = lock(&self.state).members.get_mut(&id) {
            member.hears_broadcasts = broadcasts;
            member.hears_presence = presence;
        }
    }
}

impl State {
    /// One frame for each serializer, however many members: without a join reference, which clients take as their own. Returns who had
    /// no room for it.
    fn announce(&mut self, name: &str, diff: &Diff) -> Behind {
        let topic = socket_topic(name);
        let encode = |version| {
            let frame = Frame {
                join_ref: None,
                reference: None,
                topic: &topic,
                event: "presence_diff",
                payload: diff,
            };
            frame.encode(version)
        };
        let (mut v1, mut v2): (Option<Message>, Option<Message>) = (None, None);
        let mut behind = Vec::new();
        let hears = |member: &&mut Member| member.hears_presence && !member.is_behind;
        for member in self.members.values_mut().filter(hears) {
            let encoded = match member.version {
                Version::V1 => v1.get_or_insert_with(|| encode(Version::V1)),
                Version::V2 => v2.get_or_insert_with(|| encode(Version::V2)),
            };
            if member.outbox.offer(Outgoing::Frame(encoded.clone())) != Offered::Taken {
                member.is_behind = true;
                behind.push((member.id, member.outbox.clone()));
            }
        }
        behind
    }
}
