//! `/functions/v1/{name}`: asks the database who calls and whether they may, and passes the request on.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    response::{IntoResponse, Response},
    routing::any,
};
use kijko_core::{error::Error, telemetry::canonical};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::{
    answer::{self, Limits},
    metrics::{Counted, FunctionSeries},
    outgoing,
    slots::{Full, MAX_OF_CALLER, Slot, Slots},
    store::{Call, Store},
};
use crate::{
    api::{Api, NotGranted},
    upstream::Upstream,
};

/// supabase-js reads it: the function itself did not answer.
const RELAY_ERROR: HeaderName = HeaderName::from_static("x-relay-error");

/// An answer must begin so much before the server gives the request up: the client gets our words, then.
const MARGIN: Duration = Duration::from_millis(500);

/// What the route needs.
pub(super) struct Functions {
    /// None: not configured.
    pub api: Option<Api>,
    pub store: Store,
    pub slots: Slots,
    pub upstream: Upstream,
    pub series: Arc<FunctionSeries>,
    pub max_body_bytes: usize,
    pub head_timeout: Duration,
}

/// What `public.authorize_function` answers.
#[derive(Deserialize)]
struct Ticket {
    ticket: String,
}

/// Why a request was not passed on, or its answer not back.
enum Refusal {
    /// The API's own refusal, or a fault.
    NotGranted(NotGranted),
    Method(Vec<String>),
}

pub(super) fn routes(functions: Functions) -> Router {
    Router::new()
        .route("/functions/v1/{*path}", any(call))
        .with_state(Arc::new(functions))
}

async fn call(State(functions): State<Arc<Functions>>, request: Request) -> Response {
    match functions.answer(request).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

impl Functions {
    async fn answer(&self, request: Request) -> Result<Response, Refusal> {
        let start = Instant::now();
        let (parts, body) = request.into_parts();
        let (name, rest) = outgoing::split(parts.uri.path());
        let (call, rate) = self.authorize(name, &parts.headers).await?;
        canonical::add("function", name);
        if !takes(&call, &parts.method) {
            return Err(Refusal::Method(call.methods));
        }
        let slot = self.slots.take(name, &call.share).map_err(full)?;
        let (base, client) = self.upstream.reach(&call.allowed_hosts, &call.url)?;
        let url = outgoing::target(base, rest, parts.uri.query())
            .ok_or_else(|| Error::BadRequest("the path leads out of the function".to_owned()))?;
        let mut headers = outgoing::headers(&parts.headers, &call.assertion).ok_or_else(|| {
            let cause = "the assertion is no header".to_owned();
            Error::Internal { cause }
        })?;
        let mut request = client.request(parts.method.clone(), url);
        let mut too_large = None;
        if outgoing::has_body(&parts.headers) {
            if let Some(length) = outgoing::declared_length(&parts.headers) {
                headers.insert(header::CONTENT_LENGTH, length.into());
            }
            let (body, over) = outgoing::body(body, self.max_body_bytes);
            request = request.body(body);
            too_large = Some(over);
        }
        let end = start + Duration::from_secs(call.timeout_seconds);
        let sent = Sent {
            request: request.headers(headers),
            head: end.min(start + self.head_timeout.saturating_sub(MARGIN)),
            counted: self.series.begin(),
        };
        let outcome = sent.answer().await;
        if too_large.is_some_and(|it| it.load(Ordering::Relaxed)) {
            return Err(Error::TooLarge(self.max_body_bytes).into());
        }
        let (answer, counted) = outcome?;
        canonical::add("upstream_status", answer.status().as_u16());
        let max_bytes = call.max_response_bytes;
        let mut response = pass_back(&parts.method, answer, end, max_bytes, slot, counted)?;
        response.headers_mut().extend(rate);
        Ok(response)
    }

    /// What the caller may do; the headers say what is left of their limits.
    async fn authorize(
        &self,
        name: &str,
        headers: &HeaderMap,
    ) -> Result<(Call, HeaderMap), Refusal> {
        let api = Api::configured(self.api.as_ref())?;
        let arguments = json!({ "name": name });
        let granted = api.call::<Ticket>("authorize_function", headers, &arguments);
        let (Ticket { ticket }, rate) = granted.await?;
        let call = self.store.open(&ticket).await.map_err(Error::from)?;
        let call = call.ok_or_else(|| Error::Unavailable {
            cause: "the ticket has expired, or the function is gone".to_owned(),
        })?;
        Ok((call, rate))
    }
}

fn pass_back(
    method: &Method,
    answer: reqwest::Response,
    end: Instant,
    max_bytes: u64,
    slot: Slot,
    counted: Counted,
) -> Result<Response, Error> {
    let limits = Limits {
        end,
        max_bytes,
        slot,
        counted,
    };
    answer::pass_back(method, answer, limits).map_err(|(error, mut counted)| {
        counted.end("failed");
        error
    })
}

/// A request on its way.
struct Sent {
    request: reqwest::RequestBuilder,
    /// When its answer must have begun.
    head: Instant,
    counted: Counted,
}

impl Sent {
    async fn answer(mut self) -> Result<(reqwest::Response, Counted), Error> {
        match tokio::time::timeout_at(self.head, self.request.send()).await {
            Ok(Ok(answer)) => Ok((answer, self.counted)),
            Ok(Err(error)) if !error.is_timeout() => {
                self.counted.end("failed");
                Err(Error::UpstreamFailed {
                    cause: causes(error),
                })
            }
            _ => {
                self.counted.end("timed_out");
                Err(Error::UpstreamTimedOut {
                    cause: "no answer in time".to_owned(),
                })
            }
        }
    }
}

/// Without the address, which may be private.
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn takes(call: &Call, method: &Method) -> bool {
    let name = match *method {
        Method::HEAD => "GET",
        ref other => other.as_str(),
    };
    call.methods.iter().any(|known| known == name)
}

fn full(full: Full) -> Error {
    match full {
        Full::Caller => Error::RateLimited {
            details: Some(format!("function_calls: more than {MAX_OF_CALLER} at once")),
            headers: vec![("Retry-After".to_owned(), "1".to_owned())],
        },
        Full::Function | Full::All => Error::Unavailable {
            cause: format!("too many calls at once: {full:?}"),
        },
    }
}

impl From<NotGranted> for Refusal {
    fn from(not_granted: NotGranted) -> Self {
        Self::NotGranted(not_granted)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        NotGranted::from(error).into()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut allow = None;
        let mut response = match self {
            Self::NotGranted(not_granted) => not_granted.into_response(),
            Self::Method(methods) => {
                allow = HeaderValue::from_str(&methods.join(", ")).ok();
                Error::MethodNotAllowed.into_response()
            }
        };
        let status = response.status();
        if let Some(allow) = allow {
            response.headers_mut().insert(header::ALLOW, allow);
        }
        // There is no such function, or the fault is not its own.
        if status.as_u16() == 404 || status.is_server_error() {
            let yes = HeaderValue::from_static("true");
            response.headers_mut().insert(RELAY_ERROR, yes);
        }
        response
    }
}
