//! One socket: reads its messages and keeps its channels. What each message does is in `join`, `messages` and `token`.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::extract::ws::{Message, WebSocket};
use futures_util::{StreamExt, stream::SplitStream};
use kijko_core::http::connections::Received as ReceivedBytes;
use serde_json::json;
use tokio::sync::{Mutex, Notify, oneshot};

use super::{
    Service,
    channel::Channel,
    rate::Bucket,
    reply::{ReplyTo, now},
    slots::Slot,
    writer::{self, FAREWELL, Farewell, SLOW},
};
use crate::{
    authorize::Caller,
    hub::{MemberId, Outbox},
    protocol::{Incoming, Received, Reply, Version},
};

const STOPPING: Farewell = Farewell::new(1012, "the service restarts");
const IDLE: Farewell = Farewell::new(4000, "no heartbeat");
const MALFORMED: Farewell = Farewell::new(1003, "a message is not what the serializer writes");
const TOO_LARGE: Farewell = Farewell::new(1009, "payload_size_exceeded");
const ENDED: Farewell = Farewell::new(4401, "Unauthorized: the session or the API key has ended");
const UNFINISHED: Farewell = Farewell::new(4408, "a message took too long");
const TOO_MANY_LARGE: Farewell = Farewell::new(
    4429,
    "TooManyLargeMessages: too many large messages at once; try again later",
);
/// Bytes of a client's ping before its payload.
const CONTROL_HEADER: usize = 6;
/// Nothing expires at this time.
const FAR: Duration = Duration::from_secs(86_400);

/// A socket whose key was verified.
pub struct Opened {
    pub socket: WebSocket,
    pub version: Version,
    /// What its connection receives.
    pub received: ReceivedBytes,
    pub caller: Arc<Caller>,
    pub slots: Vec<Slot>,
}

/// Serves a socket until either side closes it.
pub async fn run(service: Arc<Service>, opened: Opened) {
    let Opened {
        socket,
        version,
        received,
        caller,
        slots,
    } = opened;
    received.end_message();
    let (sink, stream) = socket.split();
    let (outbox, inbox) = Outbox::new(service.limits.backlog, service.limits.backlog_bytes());
    let (say, farewell) = oneshot::channel();
    let mut connection = Connection::new(service.clone(), version, caller, slots, outbox.clone());
    let writing = writer::write(sink, inbox, outbox, version, &service.series, farewell);
    let reading = async {
        if let Some(last) = connection.read(stream, &received).await {
            let _ = say.send(last);
            // The writer ends the socket, unless the client does not read what waits before the farewell.
            tokio::time::sleep(2 * FAREWELL).await;
        }
    };
    tokio::select! {
        () = writing => {}
        () = reading => {}
    }
    connection.leave_all();
}

pub(super) struct Connection {
    pub id: u64,
    pub service: Arc<Service>,
    pub version: Version,
    /// Whose key opened the socket: of channels that join without a token of their own.
    pub caller: Arc<Caller>,
    pub outbox: Outbox,
    pub channels: HashMap<String, Channel>,
    pub slots: Vec<Slot>,
    pub presence_rate: Bucket,
    message_rate: Bucket,
    recheck: Arc<Notify>,
    /// Replays take turns.
    pub replays: Arc<Mutex<()>>,
    joins: u64,
}

impl Connection {
    fn new(
        service: Arc<Service>,
        version: Version,
        caller: Arc<Caller>,
        slots: Vec<Slot>,
        outbox: Outbox,
    ) -> Self {
        let now = Instant::now();
        let connection = Self {
            id: service.next_connection(),
            message_rate: Bucket::new(service.limits.messages_per_second, now),
            presence_rate: Bucket::new(service.limits.presence_per_second, now),
            service,
            version,
            caller,
            outbox,
            channels: HashMap::new(),
            slots,
            recheck: Arc::default(),
            replays: Arc::default(),
            joins: 0,
        };
        connection.note_subjects();
        connection
    }

    /// Reads until the client goes (None) or is to be sent away.
    async fn read(
        &mut self,
        mut stream: SplitStream<WebSocket>,
        received: &ReceivedBytes,
    ) -> Option<Farewell> {
        let (stop, recheck) = (self.service.stop.clone(), self.recheck.clone());
        let (outbox, idle) = (self.outbox.clone(), self.service.limits.idle);
        let mut heard = tokio::time::Instant::now();
        let mut large: Option<Large> = None;
        loop {
            let expiry = self.until_expiry();
            // Only the next message waits for room: who does not read still loses what it may no longer have.
            let next = async {
                outbox.room().await;
                stream.next().await
            };
            let message = tokio::select! {
                message = tokio::time::timeout_at(heard + idle, next) => message,
                () = received.large(), if large.is_none() => match self.large() {
                    Some(slots) => {
                        let until = tokio::time::Instant::now() + idle;
                        large = Some(Large { until, _slots: slots });
                        continue;
                    }
                    None => return Some(TOO_MANY_LARGE),
                },
                () = until(large.as_ref()), if large.is_some() => {
                    self.service.series.refused("unfinished");
                    return Some(UNFINISHED);
                }
                () = tokio::time::sleep(expiry) => {
                    self.end_expired();
                    continue;
                }
                () = recheck.notified() => match self.ask_again().await {
                    true => continue,
                    false => return Some(ENDED),
                },
                () = stop.cancelled() => {
                    tokio::time::sleep(self.service.drain_delay(self.id)).await;
                    return Some(STOPPING);
                }
            };
            let incoming = match message {
                Err(_) if outbox.is_crowded() => {
                    self.service.series.refused("slow");
                    return Some(SLOW);
                }
                Err(_) => return Some(IDLE),
                Ok(Some(Err(error))) if is_too_large(&error) => return Some(TOO_LARGE),
                Ok(None | Some(Err(_)) | Some(Ok(Message::Close(_)))) => return None,
                Ok(Some(Ok(Message::Text(text)))) => Incoming::from_text(self.version, &text),
                Ok(Some(Ok(Message::Binary(frame)))) => Incoming::from_binary(&frame),
                // Between the parts of a message there may be any number of these.
                Ok(Some(Ok(Message::Ping(bytes) | Message::Pong(bytes)))) => {
                    received.exclude(CONTROL_HEADER + bytes.len());
                    heard = tokio::time::Instant::now();
                    continue;
                }
            };
            received.end_message();
            large = None;
            let Ok(incoming) = incoming else {
                self.service.series.refused("malformed");
                return Some(MALFORMED);
            };
            self.service.series.received.inc();
            self.handle(incoming).await;
            heard = tokio::time::Instant::now();
        }
    }

    /// Counts a large message that comes in parts, which wait in memory, for the network, the caller and its organizations.
    fn large(&self) -> Option<Vec<Slot>> {
        let slots = self.service.large(&self.caller);
        if slots.is_none() {
            self.service.series.refused("unfinished");
        }
        slots
    }

    async fn handle(&mut self, message: Incoming) {
        let Incoming {
            join_ref,
            reference,
            topic,
            received,
        } = message;
        let to = ReplyTo {
            join_ref,
            reference,
            topic,
        };
        let is_free = matches!(received, Received::Heartbeat | Received::Leave);
        if !is_free && !self.message_rate.take(Instant::now()) {
            self.service.series.refused("rate");
            self.refuse(
                &to,
                "MessagePerSecondRateLimitReached: too many messages per second",
            );
            return;
        }
        match received {
            Received::Heartbeat => self.reply(&to, Reply::Ok(json!({}))),
            Received::Join(payload) => self.join(to, *payload).await,
            Received::Leave => self.leave(&to),
            Received::AccessToken(token) => self.access_token(&to.topic, token).await,
            Received::Broadcast { event, body } => self.broadcast(&to, event, body),
            Received::Track(payload) => self.track(&to, Some(&payload)),
            Received::Untrack => self.track(&to, None),
            Received::Unknown(event) => self.refuse(&to, format!("UnknownEvent: {event}")),
        }
    }

    fn leave(&mut self, to: &ReplyTo) {
        let left = self.remove(&to.topic);
        self.reply(to, Reply::Ok(json!({})));
        if let Some(channel) = left {
            self.event(&to.topic, &channel, "phx_close", json!({}));
        }
    }

    /// A later join of the same topic closes the earlier one.
    pub fn close(&mut self, topic: &str) {
        if let Some(channel) = self.remove(topic) {
            self.event(topic, &channel, "phx_close", json!({}));
        }
    }

    /// Ends a channel, and says why. After `phx_error` a client joins again; after `phx_close` it does not.
    pub fn end(&mut self, topic: &str, event: &str, message: &str) {
        if let Some(channel) = self.remove(topic) {
            channel.shut();
            self.system(topic, &channel, "error", message);
            self.event(topic, &channel, event, json!({}));
        }
    }

    fn remove(&mut self, topic: &str) -> Option<Channel> {
        let channel = self.channels.remove(topic)?;
        if let Some(replay) = &channel.replay {
            replay.abort();
        }
        for membership in &channel.memberships {
            self.service.hub.leave(&membership.key, membership.id);
        }
        self.service.series.channels.dec();
        Some(channel)
    }

    fn leave_all(&mut self) {
        let topics: Vec<_> = self.channels.keys().cloned().collect();
        for topic in topics {
            self.remove(&topic);
        }
        self.service.access.remove(self.id);
    }

    pub fn next_member(&mut self) -> MemberId {
        self.joins += 1;
        MemberId {
            socket: self.id,
            join: self.joins,
        }
    }

    /// Whom a change of access must name, so that this socket asks again.
    pub fn note_subjects(&self) {
        self.note_subjects_and(&self.caller);
    }

    /// The same, for a caller that is about to join, too.
    pub(super) fn note_subjects_and(&self, caller: &Caller) {
        let mut subjects: Vec<_> = self.caller.watched().chain(caller.watched()).collect();
        for channel in self.channels.values() {
            subjects.extend(channel.caller.watched());
        }
        // The earliest moment of each.
        subjects.sort_unstable();
        subjects.dedup_by_key(|(subject, _)| *subject);
        self.service.access.set(self.id, subjects, &self.recheck);
    }

    fn until_expiry(&self) -> Duration {
        let now = now();
        let ends = self
            .channels
            .values()
            .filter_map(|channel| channel.caller.expires);
        ends.min().map_or(FAR, |end| {
            let seconds = u64::try_from(end.saturating_sub(now)).unwrap_or(0);
            Duration::from_secs(seconds).min(FAR)
        })
    }
}

/// A large message that is not whole yet.
struct Large {
    until: tokio::time::Instant,
    _slots: Vec<Slot>,
}

async fn until(large: Option<&Large>) {
    if let Some(large) = large {
        tokio::time::sleep_until(large.until).await;
    }
}

/// Whether a frame was larger than it may be. The library's error has no kind that can be told apart here, only its text.
fn is_too_large(error: &axum::Error) -> bool {
    error.to_string().contains("too long")
}
