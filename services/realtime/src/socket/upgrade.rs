//! From a request to a socket. Browsers do not show the status of a refused upgrade, so a refusal is a socket that closes with
//! a reason.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{
        ConnectInfo, Query, State,
        ws::{WebSocket, WebSocketUpgrade},
    },
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use kijko_core::http::connections::Received;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Service,
    connection::{self, Opened},
    slots::Slot,
    writer::Farewell,
};
use crate::{
    authorize::{AuthorizeError, Caller, visible_headers},
    protocol::Version,
};

/// The query of `/websocket`.
#[derive(Deserialize)]
pub struct Parameters {
    apikey: Option<String>,
    vsn: Option<String>,
    #[serde(rename = "x-org-id")]
    organization: Option<String>,
}

const NO_KEY: Farewell = Farewell::new(4401, "Unauthorized: apikey is missing");
const BAD_KEY: Farewell = Farewell::new(
    4401,
    "Unauthorized: apikey is no valid token or API key, or its session has ended",
);
const BUSY: Farewell = Farewell::new(
    4429,
    "TooManySockets: too many attempts from this network; try again later",
);
const UNAVAILABLE: Farewell = Farewell::new(1013, "the database does not answer; try again later");

/// Most messages are small, and each socket has these buffers.
const BUFFER: usize = 4 << 10;

/// `GET /websocket?apikey=…&vsn=…`.
pub async fn upgrade(
    State(service): State<Arc<Service>>,
    Query(parameters): Query<Parameters>,
    connection: Option<Extension<ConnectInfo<Received>>>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let Some(version) = Version::of(parameters.vsn.as_deref()) else {
        return (StatusCode::BAD_REQUEST, "vsn must be 1.0.0 or 2.0.0").into_response();
    };
    let largest = service.limits.frame_bytes();
    let upgrade = upgrade
        .max_message_size(largest)
        .max_frame_size(largest)
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER);
    let visible = visible_headers(&headers, parameters.organization.as_deref());
    match admit(&service, parameters.apikey, &headers, visible).await {
        Ok((caller, slots)) => {
            let open = OpenSocket::new(service.clone());
            let received = connection.map(|Extension(ConnectInfo(received))| received);
            let received = received.unwrap_or_default();
            upgrade.on_upgrade(move |socket| async move {
                let opened = Opened {
                    socket,
                    version,
                    received,
                    caller,
                    slots,
                };
                connection::run(service, opened).await;
                drop(open);
            })
        }
        Err(refusal) => {
            service.series.refused("socket");
            upgrade.on_upgrade(move |socket| refuse(socket, refusal))
        }
    }
}

/// Counts a socket until it is dropped, also when its upgrade fails.
struct OpenSocket(Arc<Service>);

impl OpenSocket {
    fn new(service: Arc<Service>) -> Self {
        service.series.sockets.inc();
        Self(service)
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.0.series.sockets.dec();
    }
}

/// Who calls, and whether there is room.
async fn admit(
    service: &Service,
    key: Option<String>,
    headers: &HeaderMap,
    visible: Arc<Value>,
) -> Result<(Arc<Caller>, Vec<Slot>), Farewell> {
    let header = |name| headers.get(name)?.to_str().ok().map(str::to_owned);
    let key = key.or_else(|| header("x-api-key"));
    let key = key.or_else(|| header("apikey"));
    let token = key.filter(|key| !key.is_empty()).ok_or(NO_KEY)?;
    if !service.count_attempt(headers) {
        return Err(BUSY);
    }
    let identified = service.authorizer.identify(&token, visible);
    let caller = identified.await.map_err(|error| match error {
        AuthorizeError::NotIdentified(_) | AuthorizeError::Policy(_) => BAD_KEY,
        AuthorizeError::Database(error) => {
            tracing::warn!(%error, "a token was not verified");
            UNAVAILABLE
        }
    })?;
    let full = |reason| Farewell::new(4429, reason);
    let slots = service.open(&caller).map_err(full)?;
    Ok((caller, slots))
}

async fn refuse(mut socket: WebSocket, refusal: Farewell) {
    let _ = socket.send(refusal.frame()).await;
}
