//! Between the client crate and a vendor, inside this process: the crate collects an answer until it forms an event, without
//! a bound and without a place to put one. So it asks us, over a socket without a file, and we ask the vendor and count
//! what comes back, whatever it forms.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use reqwest::Url;
use tokio::{net::UnixListener, time::timeout};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

/// Of one connection only, not of the message.
const HOP_BY_HOP: [HeaderName; 5] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::TE,
    header::TRANSFER_ENCODING,
];

/// One vendor's.
#[derive(Debug)]
pub(super) struct Relay {
    socket: String,
    calls: Calls,
    _server: AbortOnDropHandle<()>,
}

/// A call under way. Its name is the right to make it: the socket is open to every process beside us.
#[derive(Debug)]
pub(super) struct Call {
    name: Uuid,
    calls: Calls,
    progress: Arc<Pending>,
}

/// Why an answer did not come through.
#[derive(Debug)]
pub(super) enum Broken {
    /// More bytes than we accept.
    TooLarge,
    /// No more bytes for too long.
    Silent,
    /// The connection to the vendor.
    Transport(reqwest::Error),
}

/// Of one answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// All of it.
    pub bytes: usize,
    /// Between two parts of it.
    pub idle: Duration,
}

#[derive(Debug)]
struct Pending {
    address: Url,
    broken: OnceLock<Broken>,
}

type Calls = Arc<Mutex<HashMap<Uuid, Arc<Pending>>>>;

#[derive(Clone)]
struct Shared {
    vendor: reqwest::Client,
    limits: Limits,
    calls: Calls,
}

impl Relay {
    /// Asks through `vendor`, whose time limits hold as well.
    pub(super) fn new(vendor: reqwest::Client, limits: Limits) -> io::Result<Self> {
        let socket = format!("\0kijko-{}", Uuid::new_v4().simple());
        let listener = UnixListener::bind(&socket)?;
        let calls = Calls::default();
        let router = Router::new()
            .route("/{call}", post(forward))
            .with_state(Shared {
                vendor,
                limits,
                calls: calls.clone(),
            });
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the relay to a model vendor ended");
            }
        });
        Ok(Self {
            socket,
            calls,
            _server: AbortOnDropHandle::new(server),
        })
    }

    /// A client whose every request comes here. Nothing of it is kept or changed on the way.
    pub(super) fn client(&self) -> reqwest::Result<reqwest::Client> {
        reqwest::Client::builder()
            .unix_socket(self.socket.as_str())
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .gzip(false)
            .build()
    }

    /// Allows one call to this address.
    pub(super) fn call(&self, address: Url) -> Call {
        let name = Uuid::new_v4();
        let progress = Arc::new(Pending {
            address,
            broken: OnceLock::new(),
        });
        lock(&self.calls).insert(name, progress.clone());
        Call {
            name,
            calls: self.calls.clone(),
            progress,
        }
    }
}

impl Call {
    /// Where the client has to ask.
    pub(super) fn url(&self) -> String {
        format!("http://relay/{}", self.name)
    }

    /// What went wrong between us and the vendor.
    pub(super) fn broken(&self) -> Option<&Broken> {
        self.progress.broken.get()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        lock(&self.calls).remove(&self.name);
    }
}

fn lock(calls: &Calls) -> MutexGuard<'_, HashMap<Uuid, Arc<Pending>>> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn forward(
    State(shared): State<Shared>,
    Path(name): Path<Uuid>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let call = lock(&shared.calls).get(&name).cloned();
    let Some(call) = call else {
        return StatusCode::NOT_FOUND.into_response();
    };
    // Our own prompt, so it has no other bound than the job's.
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let request = shared
        .vendor
        .post(call.address.clone())
        .headers(end_to_end(headers))
        .body(body);
    match request.send().await {
        Ok(answer) => pass_on(answer, call, shared.limits),
        Err(error) => {
            let _ = call.broken.set(Broken::Transport(error));
            StatusCode::BAD_GATEWAY.into_response()
        }
    }
}

fn pass_on(mut answer: reqwest::Response, call: Arc<Pending>, limits: Limits) -> Response {
    let status = answer.status();
    let headers = end_to_end(std::mem::take(answer.headers_mut()));
    let answer = Answer {
        parts: answer.bytes_stream().boxed(),
        call,
        limits,
        seen: 0,
        held: Vec::new(),
    };
    let parts = stream::unfold(answer, |mut answer| async {
        let part = answer.next().await?;
        Some((part, answer))
    });
    (status, headers, Body::from_stream(parts)).into_response()
}

/// Breaks off where the vendor does, and where it becomes too much or too quiet.
struct Answer {
    parts: BoxStream<'static, reqwest::Result<Bytes>>,
    call: Arc<Pending>,
    limits: Limits,
    seen: usize,
    /// The beginning of an event. The client crate copies what it has of one with each part that comes, which for
    /// one of megabytes takes half a minute; so it gets whole ones.
    held: Vec<u8>,
}

impl Answer {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            let part = match timeout(self.limits.idle, self.parts.next()).await {
                Err(_) => return Some(self.breaks(Broken::Silent)),
                Ok(Some(Err(error))) => return Some(self.breaks(Broken::Transport(error))),
                Ok(None) if self.held.is_empty() => return None,
                Ok(None) => return Some(Ok(std::mem::take(&mut self.held).into())),
                Ok(Some(Ok(part))) => part,
            };
            self.seen += part.len();
            if self.seen > self.limits.bytes {
                return Some(self.breaks(Broken::TooLarge));
            }
            let looked_at = self.held.len();
            self.held.extend_from_slice(&part);
            if let Some(end) = end_of_events(&self.held, looked_at) {
                let rest = self.held.split_off(end);
                return Some(Ok(std::mem::replace(&mut self.held, rest).into()));
            }
        }
    }

    fn breaks(&self, why: Broken) -> io::Result<Bytes> {
        let _ = self.call.broken.set(why);
        Err(io::Error::other("the answer did not come through"))
    }
}

/// Behind the last empty line that ends after `from`.
fn end_of_events(bytes: &[u8], from: usize) -> Option<usize> {
    let ends: [&[u8]; 3] = [b"\n\n", b"\r\n\r\n", b"\r\r"];
    (from..=bytes.len())
        .rev()
        .find(|&end| ends.iter().any(|empty| bytes[..end].ends_with(empty)))
}

fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        bytes: 1_000,
        idle: Duration::from_secs(1),
    };

    #[test]
    fn events_end_with_an_empty_line() {
        for (bytes, from, end) in [
            ("data: 1", 0, None),
            ("data: 1\n", 0, None),
            ("data: 1\n\n", 0, Some(9)),
            ("data: 1\n\n", 8, Some(9)),
            ("data: 1\n\ndata", 0, Some(9)),
            ("data: 1\n\ndata", 10, None),
            ("data: 1\r\n\r\n", 10, Some(11)),
            ("1\r\r2\n\n3", 0, Some(6)),
        ] {
            assert_eq!(
                end_of_events(bytes.as_bytes(), from),
                end,
                "{bytes:?} {from}"
            );
        }
    }

    #[tokio::test]
    async fn only_a_call_under_way_is_passed_on() {
        let relay = Relay::new(reqwest::Client::new(), LIMITS).unwrap();
        let client = relay.client().unwrap();
        let nobody = "http://127.0.0.1:9/v1".parse::<Url>().unwrap();
        let ask = |url: String| {
            let sent = client.post(url).send();
            async move { sent.await.unwrap().status().as_u16() }
        };
        let call = relay.call(nobody);
        assert_eq!(ask(call.url()).await, 502);
        assert!(matches!(call.broken(), Some(Broken::Transport(_))));
        assert_eq!(ask(format!("http://relay/{}", Uuid::new_v4())).await, 404);
        assert_eq!(ask("http://relay/v1".to_owned()).await, 400);
        let ended = call.url();
        drop(call);
        assert_eq!(ask(ended).await, 404);
    }
}
