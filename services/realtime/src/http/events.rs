//! `GET /events?topic=…`: a channel's broadcasts as server-sent events, for programs without a Phoenix client.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::{Query, State},
    http::HeaderMap,
    response::sse::{Event, KeepAlive, Sse},
};
use futures_util::{Stream, stream};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Notify;

use super::{
    caller::{ATTEMPTS, grants, of_request},
    refusal::Refusal,
};
use crate::{
    authorize::{AuthorizeError, Caller},
    hub::{Inbox, Member, MemberId, Outbox, Outgoing, TopicKey},
    protocol::{Body, Broadcast, Version, topic_problem},
    socket::{Service, Slot, reason},
};

/// The query of `/events`. Product topics are private, so that is what a plain request asks for.
#[derive(Deserialize)]
pub struct Parameters {
    topic: String,
    #[serde(default = "yes")]
    private: bool,
    apikey: Option<String>,
}

const fn yes() -> bool {
    true
}

/// Proxies close connections that are silent for long.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

const QUESTIONS: &str = "ClientJoinRateLimitReached: too many joins per second; try again later";

/// Streams until the client goes, the token ends, or access is lost.
pub async fn stream(
    State(service): State<Arc<Service>>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let too_many = |reason| {
        service.series.refused("rate");
        Refusal::Full(reason)
    };
    if !service.count_attempt(&headers) {
        return Err(too_many(ATTEMPTS));
    }
    let caller = of_request(&service, &headers, parameters.apikey.as_deref()).await?;
    if let Some(problem) = topic_problem(&parameters.topic) {
        return Err(Refusal::Invalid(problem));
    }
    let key = TopicKey::new(&parameters.topic, parameters.private);
    if key.private && !service.count_question(&caller) {
        return Err(too_many(QUESTIONS));
    }
    if !grants(&service, &caller, &key).await?.read_broadcast {
        return Err(Refusal::Forbidden(Some(format!(
            "Unauthorized: You do not have permissions to read from this Channel topic: {}",
            parameters.topic
        ))));
    }
    let slots = service.open(&caller).map_err(Refusal::Full)?;
    let subscription = Subscription::new(service, caller, key, slots);
    let events = stream::unfold(Some(subscription), |subscription| async {
        let mut subscription = subscription?;
        let (event, goes_on) = subscription.next().await?;
        Some((Ok(event), goes_on.then_some(subscription)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// One client's stream.
struct Subscription {
    service: Arc<Service>,
    caller: Arc<Caller>,
    key: TopicKey,
    id: MemberId,
    inbox: Inbox,
    outbox: Outbox,
    recheck: Arc<Notify>,
    _slots: Vec<Slot>,
}

impl Subscription {
    fn new(service: Arc<Service>, caller: Arc<Caller>, key: TopicKey, slots: Vec<Slot>) -> Self {
        let (outbox, inbox) = Outbox::new(service.limits.backlog, service.limits.backlog_bytes());
        let id = MemberId {
            socket: service.next_connection(),
            join: 0,
        };
        let recheck: Arc<Notify> = Arc::default();
        service
            .access
            .set(id.socket, caller.watched().collect(), &recheck);
        service.series.sockets.inc();
        service.series.channels.inc();
        service.hub.join(
            &key,
            Member {
                id,
                join_ref: None,
                version: Version::V1,
                outbox: outbox.clone(),
                hears_broadcasts: true,
                hears_presence: false,
                on_me: false,
                replay: None,
                is_behind: false,
            },
        );
        Self {
            service,
            caller,
            key,
            id,
            inbox,
            outbox,
            recheck,
            _slots: slots,
        }
    }

    /// The next event, and whether there may be another.
    async fn next(&mut self) -> Option<(Event, bool)> {
        loop {
            tokio::select! {
                biased;
                () = self.outbox.overflow() => {
                    self.service.series.refused("slow");
                    return Some((ending("the client does not read fast enough"), false));
                }
                () = self.service.stop.cancelled() => {
                    tokio::time::sleep(self.service.drain_delay(self.id.socket)).await;
                    return Some((ending("the service restarts"), false));
                }
                () = tokio::time::sleep(until(self.caller.expires)) => {
                    return Some((ending(self.caller.expiry_reason()), false));
                }
                () = self.recheck.notified() => if let Some(reason) = self.lost().await {
                    return Some((ending(&reason), false));
                },
                outgoing = self.inbox.recv() => {
                    if let Outgoing::Broadcast(message) = outgoing? {
                        self.service.series.sent.inc();
                        return Some((event(&message), true));
                    }
                }
            }
        }
    }

    /// Why the caller may no longer read.
    async fn lost(&self) -> Option<String> {
        let again = self
            .service
            .authorizer
            .identify(&self.caller.token, self.caller.headers.clone());
        let asked = match again.await {
            Ok(caller) if self.key.private => {
                self.service
                    .authorizer
                    .authorize(&caller, &self.key.name)
                    .await
            }
            Ok(_) => return None,
            Err(error) => Err(error),
        };
        match asked {
            Ok(grants) if grants.read_broadcast => None,
            Ok(_) => Some("Unauthorized: you may not read this topic any more".to_owned()),
            Err(error @ AuthorizeError::Database(_)) => Some(reason(&error)),
            Err(error) => Some(error.to_string()),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.service.hub.leave(&self.key, self.id);
        self.service.access.remove(self.id.socket);
        self.service.series.sockets.dec();
        self.service.series.channels.dec();
    }
}

/// `event` is the user's event, `data` the payload, `id` the message's.
fn event(message: &Broadcast) -> Event {
    let name: String = message
        .event()
        .chars()
        .filter(|c| !matches!(c, '\n' | '\r'))
        .collect();
    let event = Event::default().event(name);
    let event = match message.body() {
        Body::Json(json) => event.data(json.get().replace(['\n', '\r'], " ")),
        Body::Bytes(bytes) => event.data(json!({ "bytes": bytes.len() }).to_string()),
    };
    match message.id() {
        Some(id) => event.id(id.to_string()),
        None => event,
    }
}

fn ending(reason: &str) -> Event {
    Event::default()
        .event("error")
        .data(json!({ "reason": reason }).to_string())
}

fn until(expires: Option<i64>) -> Duration {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    match expires {
        Some(end) => Duration::from_secs(u64::try_from(end).unwrap_or(0)).saturating_sub(now),
        None => Duration::from_secs(86_400 * 365),
    }
}
