//! The exporter against collectors of all kinds.

use std::{
    collections::BTreeMap,
    future::IntoFuture,
    sync::Mutex,
    time::{Instant, SystemTime},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;

use super::{
    metrics::{Outcome, SpanSeries},
    queue::{MAX_BATCH, MAX_SPANS},
    span::Attributes,
    *,
};

/// What a collector does with its n-th request.
type Answer = fn(usize) -> Response;

struct Collector {
    requests: Mutex<Vec<(HeaderMap, ExportTraceServiceRequest)>>,
    answer: Answer,
}

async fn collect(
    State(collector): State<Arc<Collector>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request = ExportTraceServiceRequest::decode(body).expect("a request of OTLP");
    let number = {
        let mut requests = collector.requests.lock().unwrap();
        requests.push((headers, request));
        requests.len()
    };
    (collector.answer)(number)
}

impl Collector {
    async fn start(answer: Answer) -> (Arc<Self>, String) {
        let collector = Arc::new(Self {
            requests: Mutex::default(),
            answer,
        });
        let routes = Router::new()
            .route("/v1/traces", post(collect))
            .with_state(collector.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, routes).into_future());
        (collector, url)
    }

    fn names(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        let spans = requests
            .iter()
            .flat_map(|(_, request)| &request.resource_spans[0].scope_spans[0].spans);
        spans.map(|span| span.name.clone()).collect()
    }
}

fn exporting(url: &str) -> (Tracer, Arc<SpanSeries>, Exporting) {
    let config = TracesConfig {
        ratio: 1.0,
        endpoint: url.parse().unwrap(),
        headers: HeaderMap::from_iter([(
            "authorization".parse().unwrap(),
            "Basic cGs6c2s=".parse().unwrap(),
        )]),
        timeout: Duration::from_millis(500),
        resource: BTreeMap::from([("deployment.environment.name".to_owned(), "test".to_owned())]),
        captures_content: false,
    };
    let traces = Traces::new(Service::TEST, Some(&config)).unwrap();
    let (tracer, series) = (traces.tracer.clone(), traces.series.clone());
    (tracer, series, traces.start().unwrap())
}

fn span(name: &str) -> Span {
    let ids = (TraceId::random(), SpanId::random());
    Span::new(name.to_owned(), Kind::Client, ids, None, SystemTime::now())
}

fn counts(series: &SpanSeries) -> [u64; 4] {
    [
        Outcome::Exported,
        Outcome::Rejected,
        Outcome::Failed,
        Outcome::Dropped,
    ]
    .map(|it| series.counted(it))
}

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn spans_arrive_with_headers_and_resource_and_without_secrets() {
    let (collector, url) = Collector::start(|_| StatusCode::OK.into_response()).await;
    let (tracer, series, exporting) = exporting(&url);
    let mut attributes = Attributes::default();
    attributes.set("a", "Bearer abcdefgh12345678 of ada@example.com");
    attributes.set("b", vec!["sk-0123456789abcdefghij".to_owned()]);
    tracer.record(span("one").with(attributes).failed("vendor_timeout"));
    tracer.record(span("two"));
    exporting.finish(LONG).await;
    assert_eq!(collector.names(), ["one", "two"]);
    assert_eq!(counts(&series), [2, 0, 0, 0]);
    let requests = collector.requests.lock().unwrap();
    let (headers, request) = &requests[0];
    assert_eq!(headers["authorization"], "Basic cGs6c2s=");
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let all = format!("{request:?}");
    for wanted in [
        "kijko-test",
        "1.2.3",
        "deployment.environment.name",
        "vendor_timeout",
        "***",
    ] {
        assert!(all.contains(wanted), "{wanted}: {all}");
    }
    for secret in ["abcdefgh1234", "ada@", "0123456789abcdef"] {
        assert!(!all.contains(secret), "{secret}: {all}");
    }
}

#[tokio::test]
async fn a_busy_collector_is_asked_again_and_gets_each_span() {
    let (collector, url) = Collector::start(|number| match number {
        1 => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")]).into_response(),
        2 => StatusCode::BAD_GATEWAY.into_response(),
        _ => StatusCode::OK.into_response(),
    })
    .await;
    let (tracer, series, exporting) = exporting(&url);
    tracer.record(span("one"));
    let end = Instant::now() + LONG;
    while counts(&series) != [1, 0, 0, 0] {
        assert!(Instant::now() < end, "{:?}", counts(&series));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    exporting.finish(LONG).await;
    assert_eq!(collector.names(), ["one", "one", "one"]);
}

#[tokio::test]
async fn what_a_collector_refuses_is_counted_and_not_sent_again() {
    let partial = |_| {
        let partial_success = Some(ExportTracePartialSuccess {
            rejected_spans: 1,
            error_message: "no".to_owned(),
        });
        ExportTraceServiceResponse { partial_success }
            .encode_to_vec()
            .into_response()
    };
    let lie = |_| {
        let partial_success = Some(ExportTracePartialSuccess {
            rejected_spans: i64::MAX,
            error_message: String::new(),
        });
        ExportTraceServiceResponse { partial_success }
            .encode_to_vec()
            .into_response()
    };
    let away = |_| (StatusCode::TEMPORARY_REDIRECT, [("location", "/elsewhere")]).into_response();
    let large = |_| vec![b'x'; 10 << 20].into_response();
    let cases: [(Answer, [u64; 4]); 5] = [
        (|_| StatusCode::BAD_REQUEST.into_response(), [0, 2, 0, 0]),
        (partial, [1, 1, 0, 0]),
        (lie, [0, 2, 0, 0]),
        (away, [0, 2, 0, 0]),
        (large, [2, 0, 0, 0]),
    ];
    for (answer, wanted) in cases {
        let (collector, url) = Collector::start(answer).await;
        let (tracer, series, exporting) = exporting(&url);
        tracer.record(span("one"));
        tracer.record(span("two"));
        exporting.finish(LONG).await;
        assert_eq!(counts(&series), wanted);
        assert_eq!(collector.names(), ["one", "two"]);
    }
}

/// A collector that accepts connections and says nothing.
#[tokio::test]
async fn a_silent_collector_delays_nobody_and_takes_bounded_room() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let (tracer, series, exporting) = exporting(&url);
    tracer.record(span("first"));
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let begin = Instant::now();
    for _ in 0..3 * MAX_SPANS {
        tracer.record(span("more"));
    }
    let each = begin.elapsed() / (3 * MAX_SPANS) as u32;
    assert!(each < Duration::from_millis(1), "{each:?}");
    let [.., dropped] = counts(&series);
    let (most, least) = (
        2 * MAX_SPANS as u64,
        2 * MAX_SPANS as u64 - 2 * MAX_BATCH as u64,
    );
    assert!((least..=most).contains(&dropped), "{dropped}");
    let begin = Instant::now();
    exporting.finish(Duration::from_secs(1)).await;
    assert!(begin.elapsed() < Duration::from_secs(5));
    drop(listener);
}

#[tokio::test]
async fn large_spans_are_bounded_by_their_bytes() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let (tracer, series, exporting) = exporting(&url);
    for _ in 0..1_000 {
        let mut attributes = Attributes::default();
        attributes.set("content", span::Value::Content("x".repeat(60_000)));
        tracer.record(span("large").with(attributes));
    }
    let [.., dropped] = counts(&series);
    assert!(
        (600..=760).contains(&dropped),
        "16 MiB are 279 of them: {dropped}"
    );
    exporting.finish(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn after_the_end_spans_are_dropped() {
    let (collector, url) = Collector::start(|_| StatusCode::OK.into_response()).await;
    let (tracer, series, exporting) = exporting(&url);
    exporting.finish(LONG).await;
    tracer.record(span("late"));
    assert_eq!(counts(&series), [0, 0, 0, 1]);
    assert!(collector.names().is_empty());
    let off = Tracer::off();
    off.record(span("nowhere"));
    assert!(!off.is_on());
}

#[test]
fn a_share_of_the_traces_is_kept_and_all_parts_choose_the_same() {
    let tracer = |ratio| Tracer {
        queue: Some(Arc::new(Queue::new(Arc::default()))),
        captures_content: false,
        ratio,
    };
    let traces: Vec<_> = (0..1_000).map(|_| TraceId::random()).collect();
    let kept = |ratio: f64| -> Vec<_> {
        let tracer = tracer(ratio);
        traces.iter().filter(|it| tracer.keeps(**it)).collect()
    };
    assert_eq!((kept(0.0).len(), kept(1.0).len()), (0, 1_000));
    let some = kept(0.3);
    assert!((200..400).contains(&some.len()), "{}", some.len());
    assert_eq!(some, kept(0.3));
    assert!(!Tracer::off().keeps(traces[0]));
}
