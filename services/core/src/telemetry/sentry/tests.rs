//! Reports from the line of the log to the wire, against a server that reads envelopes as Sentry does.

use std::{
    future::IntoFuture,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::Value;
use tracing_subscriber::layer::SubscriberExt;
use uuid::Uuid;

use super::{queue::MAX_WAITING, *};
use crate::{config::Reader, telemetry::canonical};

/// What the server does with its n-th request.
type Answer = fn(usize) -> Response;

struct Server {
    requests: Mutex<Vec<(HeaderMap, Value, Value)>>,
    answer: Answer,
}

/// Reads an envelope by its rules: a line of headers, then for each item a line with its type and length, so many bytes, and a newline.
fn read(body: &[u8]) -> (Value, Value) {
    let line = |from: usize| from + body[from..].iter().position(|byte| *byte == b'\n').unwrap();
    let json = |from: usize, to: usize| serde_json::from_slice::<Value>(&body[from..to]).unwrap();
    let end = line(0);
    let headers = json(0, end);
    let item = line(end + 1);
    let about = json(end + 1, item);
    assert_eq!(about["type"], "event");
    let length = usize::try_from(about["length"].as_u64().unwrap()).unwrap();
    let event = json(item + 1, item + 1 + length);
    assert_eq!(&body[item + 1 + length..], b"\n", "nothing follows");
    (headers, event)
}

async fn take(
    State(server): State<Arc<Server>>,
    Path(project): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    assert_eq!(project, "42");
    let (about, event) = read(&body);
    let number = {
        let mut requests = server.requests.lock().unwrap();
        requests.push((headers, about, event));
        requests.len()
    };
    (server.answer)(number)
}

impl Server {
    async fn start(answer: Answer) -> (Arc<Self>, String) {
        let server = Arc::new(Self {
            requests: Mutex::default(),
            answer,
        });
        let routes = Router::new()
            .route("/sub/api/{project}/envelope/", post(take))
            .with_state(server.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dsn = format!("http://publickey@{}/sub/42", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, routes).into_future());
        (server, dsn)
    }

    fn events(&self) -> Vec<Value> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().map(|(.., event)| event.clone()).collect()
    }
}

fn config(dsn: &str) -> SentryConfig {
    let lookup = |name: &str| (name == "SENTRY_DSN").then(|| dsn.to_owned());
    let mut env = Reader::new(Service::TEST, &lookup);
    SentryConfig::read(&mut env).unwrap()
}

/// Runs `work` with a log that reports to `dsn`, and waits until all is sent.
async fn reported(dsn: &str, work: impl FnOnce()) -> [u64; 5] {
    // With two subscribers in the process no event is switched off for either (see `capture`).
    crate::telemetry::capture::install();
    let series = Arc::new(ReportSeries::default());
    let sentry = Sentry::counted(Service::TEST, &config(dsn), series.clone()).unwrap();
    let log = tracing_subscriber::registry().with(sentry.layer().filtered());
    tracing::subscriber::with_default(log, work);
    tokio::task::spawn_blocking(|| sentry.finish())
        .await
        .unwrap();
    series.counts()
}

fn ok(_: usize) -> Response {
    StatusCode::OK.into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_a_request_arrives_as_sentry_reads_it_and_without_secrets() {
    let (server, dsn) = Server::start(ok).await;
    let user = Uuid::from_u128(7);
    let counts = reported(&dsn, || {
        let span = tracing::info_span!(
            "request",
            request_id = "r-1",
            method = "POST",
            route = "/x/{id}"
        );
        let _inside = span.enter();
        let own = [
            ("status", 500.into()),
            ("error_code", "internal".into()),
            (
                "cause",
                "Bearer abcdefgh12345678 of ada@example.com at 10.1.2.3".into(),
            ),
            ("request_body", "hidden".into()),
            ("request_bytes", 12.into()),
        ];
        let fields = canonical::Fields::of("abc-1", Some(user));
        canonical::write(
            canonical::Subject::Request,
            tracing::Level::ERROR,
            &fields,
            own,
        );
        tracing::warn!("no fault of ours");
        tracing::info!("no fault at all");
    })
    .await;
    assert_eq!(counts, [1, 0, 0, 0, 0]);
    let requests = server.requests.lock().unwrap();
    let (headers, about, event) = &requests[0];
    assert_eq!(requests.len(), 1);
    assert_eq!(headers["content-type"], "application/x-sentry-envelope");
    let auth = headers["x-sentry-auth"].to_str().unwrap();
    for part in [
        "Sentry sentry_key=publickey",
        "sentry_version=7",
        "sentry_client=kijko-test/1.2.3",
    ] {
        assert!(auth.contains(part), "{auth}");
    }
    assert_eq!(
        about["event_id"].as_str().unwrap().replace('-', ""),
        event["event_id"].as_str().unwrap()
    );
    assert!(about["sent_at"].is_string() && event["timestamp"].is_number());
    for (place, wanted) in [
        ("/release", "kijko-test@1.2.3"),
        ("/environment", "production"),
        ("/transaction", "POST /x/{id}"),
        ("/logger", "kijko::request"),
        ("/user/id", &user.to_string()),
        ("/tags/service", "kijko-test"),
        ("/tags/request_id", "r-1"),
        ("/tags/status", "500"),
        ("/exception/values/0/type", "request: internal"),
        ("/exception/values/0/value", "*** of *** at ***"),
        ("/extra/request_body", "***"),
    ] {
        assert_eq!(
            event.pointer(place).and_then(Value::as_str),
            Some(wanted),
            "{place}: {event}"
        );
    }
    assert_eq!(event["extra"]["request_bytes"], 12);
    assert_eq!(
        event["user"].as_object().unwrap().len(),
        1,
        "no address, no name"
    );
    assert!(event.get("request").is_none() && event.get("server_name").is_none());
    let all = event.to_string();
    for secret in ["abcdefgh1234", "ada@", "10.1.2.3", "hidden"] {
        assert!(!all.contains(secret), "{secret}: {all}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_jobs_and_panics_are_reported_and_other_jobs_are_not() {
    let (server, dsn) = Server::start(ok).await;
    let job = |outcome: &'static str| {
        let own = [
            ("outcome", outcome.into()),
            ("kind", "mail".into()),
            ("org_id", "o-1".into()),
        ];
        canonical::write(
            canonical::Subject::Job,
            tracing::Level::INFO,
            &canonical::Fields::default(),
            own,
        );
    };
    let counts = reported(&dsn, || {
        job("succeeded");
        job("retried");
        job("dead");
        tracing::error!(place = "src/a.rs:10:5", reason = "it broke", "a panic");
        // The same group: it is counted, and sent with the next one after a minute.
        tracing::error!(place = "src/a.rs:10:5", reason = "again", "a panic");
    })
    .await;
    assert_eq!(counts, [2, 1, 0, 0, 0]);
    let events = server.events();
    let [dead, panic] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(
        (&dead["transaction"], &dead["tags"]["outcome"]),
        (&"mail".into(), &"dead".into())
    );
    assert_eq!(dead["tags"]["org_id"], "o-1");
    let exception = &panic["exception"]["values"][0];
    assert_eq!(
        (&exception["type"], &exception["value"]),
        (&"a panic".into(), &"it broke".into())
    );
    assert_eq!(exception["mechanism"]["type"], "panic");
    assert_eq!(exception["stacktrace"]["frames"][0]["filename"], "src/a.rs");
    assert_eq!(exception["stacktrace"]["frames"][0]["lineno"], 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sentry_refuses_is_counted_and_not_sent_again() {
    let wait = |_| {
        (
            StatusCode::TOO_MANY_REQUESTS,
            [("x-sentry-rate-limits", "60::organization")],
        )
            .into_response()
    };
    let cases: [(Answer, [u64; 5], usize); 4] = [
        (
            |_| StatusCode::BAD_REQUEST.into_response(),
            [0, 0, 0, 0, 2],
            2,
        ),
        (
            |_| StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            [0, 0, 0, 2, 0],
            2,
        ),
        (
            |_| (StatusCode::TEMPORARY_REDIRECT, [("location", "/elsewhere")]).into_response(),
            [0, 0, 0, 0, 2],
            2,
        ),
        // The second one is not sent.
        (wait, [0, 0, 2, 0, 0], 1),
    ];
    for (answer, wanted, sent) in cases {
        let (server, dsn) = Server::start(answer).await;
        let counts = reported(&dsn, || {
            tracing::error!("one");
            tracing::error!("two");
        })
        .await;
        assert_eq!((counts, server.events().len()), (wanted, sent));
    }
}

/// A server that accepts connections and says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_sentry_delays_nobody_and_takes_bounded_room() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dsn = format!("http://key@{}/42", listener.local_addr().unwrap());
    let begin = Instant::now();
    let mut logged = None;
    let [sent, .., dropped, _, _] = reported(&dsn, || {
        for number in 0..3 * MAX_WAITING {
            tracing::error!(error_code = format!("e{number}"), "an error");
        }
        logged = Some(begin.elapsed());
    })
    .await;
    assert!(
        logged.is_some_and(|it| it < Duration::from_secs(1)),
        "{logged:?}"
    );
    assert!(
        begin.elapsed() < FLUSH + Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
    let (least, most) = (2 * MAX_WAITING as u64 - 1, 2 * MAX_WAITING as u64);
    assert!(
        sent == 0 && (least..=most).contains(&dropped),
        "{sent} {dropped}"
    );
    drop(listener);
}
