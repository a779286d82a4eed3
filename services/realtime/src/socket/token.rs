//! What changes while a channel is joined: its token, the time, and what its caller may do.

use std::{collections::HashSet, sync::Arc, time::Duration};

use super::{channel::Channel, connection::Connection, join::is_credential, reply::now};
use crate::authorize::{AuthorizeError, Caller};

/// Attempts to ask a database that does not answer.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);

const LOST: &str = "Unauthorized: You do not have permissions to read from this Channel any more";

impl Connection {
    /// A new token: the policies are asked again. As upstream there is no answer, unless the caller may no longer read.
    pub(super) async fn access_token(&mut self, topic: &str, token: Option<String>) {
        let (Some(token), Some(channel)) = (token, self.channels.get(topic)) else {
            return;
        };
        if !is_credential(&token) || *token == *channel.caller.token {
            return;
        }
        match self.renewed(topic, &token).await {
            Ok(caller) => {
                self.note_subjects_and(&caller);
                self.regrant(topic, caller).await;
                self.note_subjects();
            }
            Err(reason) => self.end(topic, "phx_error", &reason),
        }
    }

    /// Whom the token names. Counted as a join is: each costs the same transactions.
    async fn renewed(&self, topic: &str, token: &str) -> Result<Arc<Caller>, String> {
        let caller = self.known_or_new(token).await?;
        let channel = self.channels.get(topic);
        let asks = channel.is_some_and(|it| it.memberships.iter().any(|one| one.key.private));
        if asks {
            self.count_join(&caller)?;
        }
        Ok(caller)
    }

    /// `phx_error`, not `phx_close` as upstream: the client joins again with its present token.
    pub(super) fn end_expired(&mut self) {
        let now = now();
        let has_expired = |channel: &Channel| channel.caller.expires.is_some_and(|end| end <= now);
        let expired = self
            .channels
            .iter()
            .filter(|(_, channel)| has_expired(channel));
        let expired: Vec<_> = expired
            .map(|(topic, channel)| (topic.clone(), channel.caller.expiry_reason()))
            .collect();
        for (topic, reason) in expired {
            self.end(&topic, "phx_error", reason);
        }
    }

    /// Access has changed: whoever joined is identified again, and the policies of private channels are asked again. False when
    /// the caller of the socket itself has ended.
    pub(super) async fn ask_again(&mut self) -> bool {
        let topics: Vec<String> = self.channels.keys().cloned().collect();
        let mut ended = HashSet::new();
        for topic in topics {
            let Some(channel) = self.channels.get(&topic) else {
                continue;
            };
            let caller = channel.caller.clone();
            if caller.subjects().next().is_none() {
                continue;
            }
            match self.identify_again(&caller).await {
                Ok(caller) => self.regrant(&topic, caller).await,
                Err(AuthorizeError::Database(_)) => {
                    self.end(
                        &topic,
                        "phx_error",
                        "DatabaseUnavailable: the database does not answer",
                    );
                }
                Err(error) => {
                    ended.insert(caller.token.clone());
                    self.end(&topic, "phx_close", &error.to_string());
                }
            }
        }
        self.note_subjects();
        if self.caller.subjects().next().is_none() {
            return true;
        }
        let own = self.caller.clone();
        if ended.contains(&own.token) {
            return false;
        }
        match self.identify_again(&own).await {
            Ok(caller) => {
                // Its organizations may be others now: later joins are by what it is today.
                self.caller = caller;
                self.note_subjects();
                true
            }
            Err(AuthorizeError::Database(_)) => true,
            Err(AuthorizeError::NotIdentified(_) | AuthorizeError::Policy(_)) => false,
        }
    }

    async fn identify_again(&self, caller: &Caller) -> Result<Arc<Caller>, AuthorizeError> {
        let mut attempt = 1;
        loop {
            let headers = caller.headers.clone();
            let asked = self.service.authorizer.identify(&caller.token, headers);
            match asked.await {
                Err(AuthorizeError::Database(_)) if attempt < ATTEMPTS => {
                    attempt += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                answer => return answer,
            }
        }
    }

    /// What the caller may do from now on.
    async fn regrant(&mut self, topic: &str, caller: Arc<Caller>) {
        let Some(channel) = self.channels.get(topic) else {
            return;
        };
        if channel.is_me {
            self.regrant_me(topic, caller).await;
            return;
        }
        let Some(membership) = channel.only() else {
            return;
        };
        let (key, id) = (membership.key.clone(), membership.id);
        let grants = match self.grants(&caller, &key).await {
            Ok(grants) if grants.may_join() => grants,
            Ok(_) => return self.end(topic, "phx_close", LOST),
            Err(reason) => return self.end(topic, "phx_error", &reason),
        };
        let lost = channel.only().is_some_and(|former| {
            let former = former.grants;
            (former.read_broadcast && !grants.read_broadcast)
                || (former.read_presence && !grants.read_presence)
        });
        if lost {
            // The client joins again, with what is left.
            return self.end(topic, "phx_error", LOST);
        }
        let Some(channel) = self.channels.get_mut(topic) else {
            return;
        };
        channel.caller = caller;
        let presence = channel.wants_presence && grants.read_presence;
        if let Some(membership) = channel.memberships.first_mut() {
            membership
                .topic
                .set_hearing(id, grants.read_broadcast, presence);
            membership.grants = grants;
        }
    }

    /// Topics of `me` come and go with the caller's organizations.
    async fn regrant_me(&mut self, topic: &str, caller: Arc<Caller>) {
        let topics = match self.topics_of_me(&caller).await {
            Ok(topics) => topics,
            Err(reason) => return self.end(topic, "phx_error", &reason),
        };
        let Some(mut channel) = self.channels.remove(topic) else {
            return;
        };
        let before = channel.memberships.len();
        let hub = &self.service.hub;
        channel.memberships.retain(|known| {
            let stays = topics.iter().any(|(key, _)| *key == known.key);
            if !stays {
                known.outbox.shut();
                hub.leave(&known.key, known.id);
            }
            stays
        });
        let left = before != channel.memberships.len();
        let new: Vec<_> = topics
            .into_iter()
            .filter(|(key, _)| !channel.memberships.iter().any(|known| known.key == *key))
            .collect();
        let came = !new.is_empty();
        let joined = self.join_me(channel.join_ref.as_ref(), new);
        channel.memberships.extend(joined);
        channel.caller = caller;
        if left || came {
            self.connection_ready(topic, &channel);
        }
        self.channels.insert(topic.to_owned(), channel);
    }
}
