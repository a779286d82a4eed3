//! Without a socket: broadcasts over HTTP, and a stream of events for programs such as curl.

mod broadcast;
mod caller;
mod events;
mod refusal;

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};

use crate::socket::{self, Service};

/// The routes, without the prefix `/realtime/v1` that the proxy takes off.
pub fn routes(service: Arc<Service>) -> Router {
    Router::new()
        .route("/websocket", get(socket::upgrade))
        .route("/events", get(events::stream))
        .route("/api/broadcast", post(broadcast::batch))
        .route(
            "/api/broadcast/{topic}/events/{event}",
            post(broadcast::one),
        )
        .with_state(service)
}
