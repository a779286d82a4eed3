//! `channel.send()` without a joined socket, `channel.httpSend()`, and programs without a socket.

use std::{collections::HashMap, sync::Arc};

use axum::{
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    caller::{count, grants, of_sender},
    refusal::Refusal,
};
use crate::{
    authorize::Caller,
    hub::TopicKey,
    protocol::{Body, Broadcast, topic_problem},
    socket::Service,
};

#[derive(Deserialize)]
struct Batch {
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    topic: String,
    event: String,
    payload: Box<RawValue>,
    #[serde(default)]
    private: bool,
}

/// Messages to private channels that the caller may not write to are left out, as upstream.
pub async fn batch(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    let caller = of_sender(&service, &headers).await?;
    let Batch { messages } =
        serde_json::from_slice(&body).map_err(|error| Refusal::Invalid(error.to_string()))?;
    if let Some(problem) = messages.iter().find_map(|one| topic_problem(&one.topic)) {
        return Err(Refusal::Invalid(problem));
    }
    let fits = |one: &Message| service.limits.fits(&one.event, one.payload.get().len());
    if !messages.iter().all(fits) {
        return Err(Refusal::TooLarge);
    }
    let mut asked = HashMap::new();
    for message in messages {
        count(&service, &caller)?;
        let key = TopicKey::new(&message.topic, message.private);
        let allowed = match asked.get(&key) {
            Some(allowed) => *allowed,
            None => {
                let allowed = grants(&service, &caller, &key).await?.write_broadcast;
                asked.insert(key.clone(), allowed);
                allowed
            }
        };
        match allowed {
            true => send(
                &service,
                &caller,
                &key,
                message.event,
                Body::Json(message.payload),
            ),
            false => service.series.refused("broadcast"),
        }
    }
    Ok(StatusCode::ACCEPTED)
}

/// The query of one message.
#[derive(Deserialize)]
pub struct Options {
    #[serde(default)]
    private: bool,
}

/// One message, whose body is the payload.
pub async fn one(
    State(service): State<Arc<Service>>,
    Path((topic, event)): Path<(String, String)>,
    Query(options): Query<Options>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    let caller = of_sender(&service, &headers).await?;
    count(&service, &caller)?;
    if let Some(problem) = topic_problem(&topic) {
        return Err(Refusal::Invalid(problem));
    }
    if !service.limits.fits(&event, body.len()) {
        return Err(Refusal::TooLarge);
    }
    let key = TopicKey::new(&topic, options.private);
    if !grants(&service, &caller, &key).await?.write_broadcast {
        service.series.refused("broadcast");
        return Err(Refusal::Forbidden(None));
    }
    let are_bytes = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/octet-stream"));
    let body = match are_bytes {
        true => Body::Bytes(body),
        false => Body::Json(
            serde_json::from_slice(&body).map_err(|error| Refusal::Invalid(error.to_string()))?,
        ),
    };
    send(&service, &caller, &key, event, body);
    Ok(StatusCode::ACCEPTED)
}

fn send(service: &Service, caller: &Caller, key: &TopicKey, event: String, body: Body) {
    service.series.received.inc();
    let message = Broadcast::new(&key.name, event, body, None).sent_by(caller.sender());
    let message = Arc::new(message);
    service.hub.broadcast_everywhere(key, &message, None);
}
