//! What every request gets: an id, a time limit, a size limit, its canonical line, metrics and the error's body.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Instant, SystemTime},
};

use axum::{
    body::HttpBody,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tracing::{Instrument, Level};
use uuid::Uuid;

use super::unread_body::{self, DRAINED_BYTES};
use crate::{
    error::Error,
    http::{
        config::{HttpConfig, RouteLimit, RouteLimits},
        metrics::HttpSeries,
    },
    telemetry::{
        canonical::{self, Subject},
        sentry::user,
        throttle::LogThrottle,
        traces::{self, Kind, Span, SpanId, TraceId, TraceParent, Tracer, span::Attributes},
    },
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PROCESS_TIME: HeaderName = HeaderName::from_static("x-process-time");

/// The client closed the connection before it had a response; the status is nginx's.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// What the middleware of one router shares.
pub(in crate::http) struct Observer {
    config: HttpConfig,
    limits: Arc<RouteLimits>,
    series: Arc<HttpSeries>,
    /// Monitors ask for everything on this router every few seconds.
    probes_only: bool,
    tracer: Tracer,
    /// Lines of refused requests by route.
    throttles: Mutex<HashMap<String, LogThrottle>>,
}

impl Observer {
    /// The limits of a route.
    fn limit(&self, route: &str) -> RouteLimit {
        let of_all = RouteLimit {
            request_timeout: self.config.request_timeout,
            max_body_bytes: self.config.max_body_bytes,
        };
        self.limits.get(route).copied().unwrap_or(of_all)
    }

    pub(in crate::http) fn new(
        config: HttpConfig,
        limits: Arc<RouteLimits>,
        series: Arc<HttpSeries>,
        probes_only: bool,
        tracer: Tracer,
    ) -> Self {
        Self {
            config,
            limits,
            series,
            probes_only,
            tracer,
            throttles: Mutex::default(),
        }
    }
}

/// The outermost layer.
pub(in crate::http) async fn observe(
    State(observer): State<Arc<Observer>>,
    mut request: Request,
    next: Next,
) -> Response {
    let mut line = Line::begin(observer, &request);
    let place = line.trace.as_ref().map(|trace| trace.place);
    if let Some(place) = place
        && let Ok(header) = HeaderValue::from_str(&place.to_string())
    {
        // What handlers record, and whom they call, belongs to this span.
        request.headers_mut().insert(TraceParent::HEADER, header);
    }
    let span = tracing::info_span!(
        "request", request_id = line.id, method = %request.method(), route = line.route
    );
    let limit = line.observer.limit(&line.route);
    let streams = line.observer.config.streams;
    let answer = answer(streams, limit, line.request_bytes, request, next);
    let answer = canonical::scope(line.fields.clone(), answer).instrument(span);
    let response = match place {
        Some(place) => traces::within(line.observer.tracer.clone(), place, answer).await,
        None => answer.await,
    };
    line.end(response)
}

/// One request's canonical line. It is written when it is dropped, so that a request whose client hangs up has one too.
struct Line {
    observer: Arc<Observer>,
    start: Instant,
    id: String,
    method: &'static str,
    route: String,
    request_bytes: Option<u64>,
    fields: canonical::Fields,
    status: u16,
    response_bytes: Option<u64>,
    error: Option<Error>,
    /// None: the request has no span.
    trace: Option<Trace>,
}

/// Where a request is in its trace.
struct Trace {
    place: TraceParent,
    parent: Option<SpanId>,
    start: SystemTime,
}

impl Trace {
    fn of(headers: &HeaderMap, tracer: &Tracer) -> Option<Self> {
        let parent = tracer.is_on().then(|| TraceParent::of(headers))?;
        let trace = parent.map_or_else(TraceId::random, |parent| parent.trace);
        tracer.keeps(trace).then(|| Self {
            place: TraceParent {
                trace,
                span: SpanId::random(),
            },
            parent: parent.map(|parent| parent.span),
            start: SystemTime::now(),
        })
    }
}

impl Line {
    fn begin(observer: Arc<Observer>, request: &Request) -> Self {
        let route = request.extensions().get::<MatchedPath>();
        let is_probe = observer.probes_only || route.is_some_and(|it| it.as_str() == "/health");
        let trace = (!is_probe).then(|| Trace::of(request.headers(), &observer.tracer));
        let id = request_id(request.headers());
        Self {
            trace: trace.flatten(),
            observer,
            start: Instant::now(),
            fields: canonical::Fields::of(id.as_str(), user::of(request.headers())),
            id,
            method: method_label(request.method()),
            route: route.map_or("unmatched", MatchedPath::as_str).to_owned(),
            request_bytes: declared_length(request.headers()),
            status: CLIENT_CLOSED_REQUEST,
            response_bytes: None,
            error: None,
        }
    }

    /// Errors are written again with the request id, under the headers that their handler added; then the headers that every
    /// response has.
    fn end(&mut self, mut response: Response) -> Response {
        let error = response.extensions().get::<Error>().cloned();
        if let Some(error) = &error {
            let mut written = error.respond(Some(&self.id));
            for (name, value) in written.headers() {
                response.headers_mut().insert(name, value.clone());
            }
            std::mem::swap(written.headers_mut(), response.headers_mut());
            response = written;
        }
        let seconds = self.start.elapsed().as_secs_f64();
        for (name, value) in [
            (REQUEST_ID, self.id.clone()),
            (PROCESS_TIME, format!("{seconds:.6}")),
        ] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        self.error = error;
        self.status = response.status().as_u16();
        self.response_bytes = response.body().size_hint().exact();
        response
    }

    fn error_code(&self) -> Option<&'static str> {
        match self.status {
            CLIENT_CLOSED_REQUEST => Some("client_closed_request"),
            _ => self.error.as_ref().map(Error::code),
        }
    }

    /// Probes come every few seconds, and anybody can be refused any number of times: their lines are debug lines, except what is
    /// slow or our fault, and one refusal a second of each route, which counts those before it.
    fn level(&self, slow: bool) -> (Level, Option<u64>) {
        let cause = self.error.as_ref().and_then(Error::cause);
        let refused = self.status >= 400 && self.status != CLIENT_CLOSED_REQUEST;
        if cause.is_some() {
            (Level::ERROR, None)
        } else if refused {
            match self.due() {
                Some(suppressed) => (Level::WARN, Some(suppressed)),
                None => (Level::DEBUG, None),
            }
        } else if slow {
            (Level::WARN, None)
        } else if self.observer.probes_only || self.route == "/health" {
            (Level::DEBUG, None)
        } else {
            (Level::INFO, None)
        }
    }

    fn record_span(&self) {
        let Some(trace) = &self.trace else {
            return;
        };
        let mut attributes = Attributes::default();
        attributes.set("http.request.method", self.method);
        attributes.set("http.route", self.route.as_str());
        attributes.set("http.response.status_code", u32::from(self.status));
        attributes.set("kijko.request.id", self.id.as_str());
        attributes.set_some("error.type", self.error_code());
        let name = format!("{} {}", self.method, self.route);
        let ids = (trace.place.trace, trace.place.span);
        let span = Span::new(name, Kind::Server, ids, trace.parent, trace.start).with(attributes);
        self.observer.tracer.record(match self.status {
            500.. => span.failed(self.error_code().unwrap_or("internal")),
            _ => span,
        });
    }

    fn due(&self) -> Option<u64> {
        let throttles = self.observer.throttles.lock();
        let mut throttles = throttles.unwrap_or_else(PoisonError::into_inner);
        let throttle = throttles.entry(self.route.clone()).or_default();
        throttle.due(Instant::now())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.record_span();
        let duration = self.start.elapsed();
        let Observer { config, series, .. } = &*self.observer;
        series.request(self.method, &self.route, self.status, duration);
        let slow = duration >= config.slow_request;
        let (level, suppressed) = self.level(slow);
        let cause = self.error.as_ref().and_then(Error::cause);
        let own: [(&'static str, Value); 11] = [
            ("request_id", json!(self.id)),
            ("method", json!(self.method)),
            ("route", json!(self.route)),
            ("status", json!(self.status)),
            ("duration_ms", json!(duration.as_millis() as u64)),
            ("request_bytes", json!(self.request_bytes)),
            ("response_bytes", json!(self.response_bytes)),
            ("error_code", json!(self.error_code())),
            ("cause", json!(cause)),
            ("slow", if slow { json!(true) } else { Value::Null }),
            ("suppressed", json!(suppressed)),
        ];
        canonical::write(Subject::Request, level, &self.fields, own);
    }
}

/// Clients may send any method name, in any case; they must not choose a label.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

/// A request that declares too many bytes does not reach its handler.
async fn answer(
    streams: bool,
    limit: RouteLimit,
    declared: Option<u64>,
    request: Request,
    next: Next,
) -> Response {
    if streams {
        return next.run(request).await;
    }
    let (limit, most) = (limit.request_timeout, limit.max_body_bytes);
    if declared.is_some_and(|length| length > most as u64) {
        let parts = request.into_body().into_data_stream();
        let _ = tokio::time::timeout(limit, unread_body::read_rest(parts, DRAINED_BYTES)).await;
        return Error::TooLarge(most).into_response();
    }
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Error::Unavailable {
            cause: format!("no answer within {limit:?}"),
        }
        .into_response(),
    }
}

/// A caller's id is taken over if it can stand in a log and a header as it is.
fn request_id(headers: &HeaderMap) -> String {
    let sane = |id: &&str| {
        (1..=128).contains(&id.len())
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
    };
    let given = headers
        .get(&REQUEST_ID)
        .and_then(|id| id.to_str().ok())
        .filter(sane);
    given.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(given: &'static str) -> String {
        request_id(&HeaderMap::from_iter([(
            REQUEST_ID,
            HeaderValue::from_static(given),
        )]))
    }

    #[test]
    fn sane_ids_are_kept_and_others_replaced() {
        assert_eq!(id_for("abc-123_x.y:z"), "abc-123_x.y:z");
        for bad in ["", "a b", "a\"b", "<script>", "a/b"] {
            assert!(Uuid::parse_str(&id_for(bad)).is_ok(), "{bad:?} was kept");
        }
        assert!(Uuid::parse_str(&request_id(&HeaderMap::new())).is_ok());
    }
}
