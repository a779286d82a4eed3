//! `phx_join`: who joins, what they may do, and what they get first.

use std::sync::Arc;

use serde_json::json;
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::{
    channel::{Channel, Membership},
    connection::Connection,
    reply::{ReplyTo, now, reason},
};
use crate::{
    authorize::{Caller, Grants},
    delivery,
    hub::{Member, MemberId, Outbox, Replaying, Topic, TopicKey},
    protocol::{JoinPayload, ME, Replay, Reply, bare_topic, topic_problem},
};

/// A key of presence is kept as long as its channel, and names a member in every difference.
const MAX_PRESENCE_KEY: usize = 255;

const NO_POSTGRES_CHANGES: &str = "PostgresChangesNotServed: this server has no postgres_changes; \
    call realtime.broadcast_changes() in a trigger and listen to broadcasts (docs/guides/realtime.md)";

impl Connection {
    pub(super) async fn join(&mut self, to: ReplyTo, payload: JoinPayload) {
        let admitted = match self.admit(&to, &payload).await {
            Ok(admitted) => admitted,
            Err(reason) => {
                self.note_subjects();
                self.service.series.refused("join");
                self.refuse(&to, reason);
                return;
            }
        };
        self.close(&to.topic);
        match admitted {
            Admitted::Topic(caller, key, grants) => {
                self.enter(to, payload, caller, key, grants);
            }
            Admitted::Me(caller, topics) => self.enter_me(to, caller, topics),
        }
        self.note_subjects();
    }

    /// Who joins and what they may do, or why not.
    async fn admit(&mut self, to: &ReplyTo, payload: &JoinPayload) -> Result<Admitted, String> {
        let name = bare_topic(&to.topic)
            .ok_or("InvalidTopic: a topic begins with realtime: and has a name")?;
        if let Some(problem) = topic_problem(name) {
            return Err(problem);
        }
        if payload.presence_key.len() > MAX_PRESENCE_KEY {
            return Err(format!(
                "payload_size_exceeded: a key of presence has at most {MAX_PRESENCE_KEY} bytes"
            ));
        }
        if !payload.postgres_changes.is_empty() {
            return Err(NO_POSTGRES_CHANGES.to_owned());
        }
        let full = self.channels.len() >= self.service.limits.channels;
        if full && !self.channels.contains_key(&to.topic) {
            return Err("ChannelRateLimitReached: too many channels on one socket".to_owned());
        }
        let caller = self.joining(payload).await?;
        // Before the policies are asked: a change that they have not seen is then heard.
        self.note_subjects_and(&caller);
        self.service.count(&caller, &mut self.slots)?;
        if payload.private {
            self.count_join(&caller)?;
        }
        if name == ME && payload.private {
            let topics = self.topics_of_me(&caller).await?;
            return Ok(Admitted::Me(caller, topics));
        }
        let key = TopicKey::new(name, payload.private);
        let grants = self.grants(&caller, &key).await?;
        if !grants.may_join() {
            return Err(format!(
                "Unauthorized: You do not have permissions to read from this Channel topic: {name}"
            ));
        }
        Ok(Admitted::Topic(caller, key, grants))
    }

    /// Counts a join for which Postgres is asked. Each costs a transaction, and they wait for each other.
    pub(super) fn count_join(&self, caller: &Caller) -> Result<(), String> {
        if self.service.count_question(caller) {
            return Ok(());
        }
        self.service.series.refused("rate");
        Err("ClientJoinRateLimitReached: too many joins per second; try again later".to_owned())
    }

    /// By the token of the join, else of the socket.
    async fn joining(&self, payload: &JoinPayload) -> Result<Arc<Caller>, String> {
        let caller = match &payload.access_token {
            Some(token) if is_credential(token) && **token != *self.caller.token => {
                self.known_or_new(token).await?
            }
            _ => self.caller.clone(),
        };
        match caller.expires {
            Some(end) if end <= now() => Err(caller.expiry_reason().to_owned()),
            _ => Ok(caller),
        }
    }

    /// Channels of one socket share what was verified once.
    pub(super) async fn known_or_new(&self, token: &str) -> Result<Arc<Caller>, String> {
        let known = self.channels.values().map(|channel| &channel.caller);
        if let Some(caller) = known.into_iter().find(|caller| *caller.token == *token) {
            return Ok(caller.clone());
        }
        self.count_join(&self.caller)?;
        let headers = self.caller.headers.clone();
        let identified = self.service.authorizer.identify(token, headers).await;
        identified.map_err(|error| reason(&error))
    }

    pub(super) async fn grants(&self, caller: &Caller, key: &TopicKey) -> Result<Grants, String> {
        if !key.private {
            return Ok(Grants::ALL);
        }
        let asked = self.service.authorizer.authorize(caller, &key.name).await;
        asked.map_err(|error| reason(&error))
    }

    /// The topics of `me` that the caller may read: each by the policies of its own.
    pub(super) async fn topics_of_me(
        &self,
        caller: &Caller,
    ) -> Result<Vec<(TopicKey, Grants)>, String> {
        let mut names: Vec<_> = caller
            .organizations
            .iter()
            .map(|id| format!("org:{id}"))
            .collect();
        names.extend(caller.user.map(|id| format!("user:{id}")));
        if names.is_empty() {
            return Err(
                "Unauthorized: me is for a signed-in user or an API key; sign in first".to_owned(),
            );
        }
        let mut topics = Vec::new();
        for name in names {
            let key = TopicKey::new(&name, true);
            let grants = self.grants(caller, &key).await?;
            if grants.read_broadcast {
                topics.push((key, grants));
            }
        }
        Ok(topics)
    }

    /// Joins. The member is in the hub before the client knows that it is, so that it misses nothing from then on.
    fn enter(
        &mut self,
        to: ReplyTo,
        payload: JoinPayload,
        caller: Arc<Caller>,
        key: TopicKey,
        grants: Grants,
    ) {
        let id = self.next_member();
        let join_ref: Option<Arc<str>> = to.join_ref.as_deref().map(Into::into);
        let replay = payload
            .replay
            .filter(|_| key.private && grants.read_broadcast);
        let outbox = self.outbox.branch();
        let member = Member {
            id,
            join_ref: join_ref.clone(),
            version: self.version,
            outbox: outbox.clone(),
            hears_broadcasts: grants.read_broadcast,
            hears_presence: payload.presence && grants.read_presence,
            on_me: false,
            replay: replay.map(|_| Replaying::begin()),
            is_behind: false,
        };
        let topic = self.service.hub.join(&key, member);
        self.service.series.channels.inc();
        self.reply(&to, Reply::Ok(json!({ "postgres_changes": [] })));
        topic.send_presence_state(&key.name, id);
        let membership = Membership {
            key: key.clone(),
            id,
            topic: topic.clone(),
            outbox: outbox.clone(),
            grants,
        };
        let channel = Channel {
            join_ref,
            caller,
            memberships: vec![membership],
            is_me: false,
            ack: payload.ack,
            own: payload.own,
            wants_presence: payload.presence,
            presence_key: match payload.presence_key.is_empty() {
                true => Uuid::new_v4().to_string().into(),
                false => payload.presence_key.into(),
            },
            presence_bytes: 0,
            replay: replay.map(|replay| self.replay(key.name, topic, id, outbox, replay)),
        };
        self.channels.insert(to.topic, channel);
    }

    /// Sends messages from the past, one channel after the other. It is a task of its own: while a client does not read them, the
    /// socket still hears that access has changed.
    fn replay(
        &self,
        name: Arc<str>,
        topic: Arc<Topic>,
        id: MemberId,
        outbox: Outbox,
        replay: Replay,
    ) -> AbortHandle {
        let (service, turn) = (self.service.clone(), self.replays.clone());
        let replaying = async move {
            let _turn = turn.lock().await;
            let to = (&*topic, id, &outbox);
            let bytes = service.limits.backlog_bytes();
            delivery::replay(&service.db, &service.hub, &name, to, replay, bytes).await;
        };
        tokio::spawn(replaying).abort_handle()
    }

    fn enter_me(&mut self, to: ReplyTo, caller: Arc<Caller>, topics: Vec<(TopicKey, Grants)>) {
        let join_ref: Option<Arc<str>> = to.join_ref.as_deref().map(Into::into);
        let memberships = self.join_me(join_ref.as_ref(), topics);
        let channel = Channel {
            join_ref,
            caller,
            memberships,
            is_me: true,
            ack: false,
            own: false,
            wants_presence: false,
            presence_key: "".into(),
            presence_bytes: 0,
            replay: None,
        };
        self.service.series.channels.inc();
        self.reply(&to, Reply::Ok(json!({ "postgres_changes": [] })));
        self.connection_ready(&to.topic, &channel);
        self.channels.insert(to.topic, channel);
    }

    /// Becomes a member of topics, whose messages come on the channel `me`.
    pub(super) fn join_me(
        &mut self,
        join_ref: Option<&Arc<str>>,
        topics: Vec<(TopicKey, Grants)>,
    ) -> Vec<Membership> {
        let join = |(key, grants): (TopicKey, Grants)| {
            let id = self.next_member();
            let outbox = self.outbox.branch();
            let member = Member {
                id,
                join_ref: join_ref.cloned(),
                version: self.version,
                outbox: outbox.clone(),
                hears_broadcasts: grants.read_broadcast,
                hears_presence: false,
                on_me: true,
                replay: None,
                is_behind: false,
            };
            let topic = self.service.hub.join(&key, member);
            Membership {
                key,
                id,
                topic,
                outbox,
                grants,
            }
        };
        topics.into_iter().map(join).collect()
    }

    /// Says who the caller is and which organizations are joined: after the join, and when that has changed.
    pub(super) fn connection_ready(&self, topic: &str, channel: &Channel) {
        let names = channel.memberships.iter().map(|one| &*one.key.name);
        let org_ids: Vec<&str> = names.filter_map(|name| name.strip_prefix("org:")).collect();
        let payload = json!({
            "type": "broadcast",
            "event": "connection_ready",
            "payload": { "user_id": channel.caller.user, "org_ids": org_ids },
        });
        self.event(topic, channel, "broadcast", payload);
    }
}

enum Admitted {
    Topic(Arc<Caller>, TopicKey, Grants),
    Me(Arc<Caller>, Vec<(TopicKey, Grants)>),
}

/// Keys of other kinds, such as `sb_publishable_…`, name nobody: the socket's own counts.
pub(super) fn is_credential(token: &str) -> bool {
    token.starts_with("kjk_") || token.starts_with("ey") && token.matches('.').count() == 2
}
