//! Both routers in process, with an unreachable database.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, Request, StatusCode},
    routing::{get, post},
};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::{
    db,
    error::Error,
    service::Service,
    telemetry::{canonical, capture::Capture, metrics::Metrics},
};

fn server() -> Server {
    Server {
        limits: Arc::default(),
        service: Service::TEST,
        config: HttpConfig {
            public: "127.0.0.1:0".parse().unwrap(),
            operators: "127.0.0.1:0".parse().unwrap(),
            slow_request: Duration::from_secs(10),
            request_timeout: Duration::from_secs(1),
            max_body_bytes: 2_000,
            streams: false,
        },
        series: Arc::default(),
        db: db::unreachable(),
        has_queue: true,
        tracer: crate::telemetry::traces::Tracer::off(),
    }
}

fn routes() -> Router {
    Router::new()
        .route(
            "/panic",
            get(|| async { panic!("the secret of the panic") as () }),
        )
        .route(
            "/slow",
            get(|| async { tokio::time::sleep(Duration::from_secs(60)).await }),
        )
        .route(
            "/fault",
            get(|| async {
                Error::Internal {
                    cause: "the secret of the fault".into(),
                }
            }),
        )
        .route(
            "/labelled",
            get(|| async {
                let error = Error::UpstreamFailed {
                    cause: "the secret of the server behind".into(),
                };
                ([("x-relay-error", "true"), ("content-type", "x")], error)
            }),
        )
        .route(
            "/things/{id}",
            post(|body: Bytes| async move {
                canonical::add("thing", "a name");
                canonical::add("status", 999);
                body.len().to_string()
            }),
        )
        .route(
            "/refused",
            get(|| async { Error::BadRequest("no".to_owned()) }),
        )
}

fn app() -> Router {
    public(&server(), routes())
}

fn pages(server: &Server) -> Router {
    let metrics = Metrics::new(Service::TEST, vec![server.series.clone()]);
    operators(server, Arc::new(metrics), Vec::new())
}

async fn call(app: Router, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
    let response = app.oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, headers, String::from_utf8(body.to_vec()).unwrap())
}

async fn fetch(app: Router, path: &str) -> (StatusCode, HeaderMap, String) {
    call(app, Request::get(path).body(Body::empty()).unwrap()).await
}

fn code(status: StatusCode, body: &str) -> (u16, String) {
    let body: Value = serde_json::from_str(body).unwrap();
    (status.as_u16(), body["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn the_public_router_has_no_pages_of_operators() {
    for path in ["/metrics", "/ready", "/metrics/", "//metrics", "/Ready"] {
        let (status, _, body) = fetch(app(), path).await;
        assert_eq!(code(status, &body), (404, "not_found".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn the_operators_router_has_no_public_routes() {
    let (status, _, body) = fetch(pages(&server()), "/refused").await;
    assert_eq!(code(status, &body), (404, "not_found".to_owned()));
}

#[tokio::test]
async fn health_needs_no_database_and_is_on_both() {
    for app in [app(), pages(&server())] {
        let (status, headers, body) = fetch(app, "/health").await;
        assert_eq!(status, 200);
        let body: Value = serde_json::from_str(&body).unwrap();
        let database = json!({"up": false, "latency_ms": null});
        assert_eq!(
            body,
            json!({"status": "degraded", "version": "1.2.3", "database": database})
        );
        assert!(headers.contains_key("x-request-id"));
        let seconds: f64 = headers["x-process-time"].to_str().unwrap().parse().unwrap();
        assert!(seconds >= 0.0);
    }
}

#[tokio::test]
async fn without_a_database_it_is_down() {
    let (status, _, body) = fetch(pages(&server()), "/ready").await;
    assert_eq!(status, 503);
    assert!(!body.contains("secret"));
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&body["status"], &body["version"]),
        (&json!("down"), &json!("1.2.3"))
    );
    assert_eq!(body["checks"]["database"]["status"], "down");
}

#[tokio::test]
async fn metrics_need_no_database_and_count_the_requests_of_both() {
    let server = server();
    fetch(public(&server, routes()), "/nowhere/1").await;
    let pages = pages(&server);
    fetch(pages.clone(), "/health").await;
    let (status, headers, body) = fetch(pages, "/metrics").await;
    assert_eq!(status, 200);
    let kind = headers["content-type"].to_str().unwrap();
    assert!(kind.starts_with("application/openmetrics-text"));
    assert!(body.contains(r#"route="/health""#) && body.ends_with("# EOF\n"));
    assert!(
        body.contains(r#"route="unmatched",status="404""#) && !body.contains("nowhere"),
        "{body}"
    );
}

#[tokio::test]
async fn unknown_methods_share_one_label() {
    let server = server();
    let methods = ["ABCDEFG", "get", "PROPFIND", "TRACE", "CONNECT"];
    for method in methods {
        let request = Request::builder().method(method).uri("/health");
        let app = public(&server, routes());
        call(app, request.body(Body::empty()).unwrap()).await;
    }
    let (_, _, body) = fetch(pages(&server), "/metrics").await;
    assert!(body.contains(r#"method="OTHER""#), "{body}");
    for method in methods {
        let label = format!(r#"method="{method}""#);
        assert!(!body.contains(&label), "{method}: {body}");
    }
}

#[tokio::test]
async fn a_sane_request_id_comes_back() {
    let request = Request::get("/health")
        .header("X-Request-ID", "trace-1")
        .body(Body::empty())
        .unwrap();
    assert_eq!(call(app(), request).await.1["x-request-id"], "trace-1");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_errors_of_the_one_shape() {
    let (status, _, body) = fetch(app(), "/nowhere/1").await;
    assert_eq!(code(status, &body), (404, "not_found".to_owned()));
    let request = Request::delete("/health").body(Body::empty()).unwrap();
    let (status, _, body) = call(app(), request).await;
    assert_eq!(code(status, &body), (405, "method_not_allowed".to_owned()));
}

#[tokio::test]
async fn a_panic_and_a_fault_are_opaque_and_carry_the_request_id() {
    for path in ["/panic", "/fault"] {
        let (status, headers, body) = fetch(app(), path).await;
        assert_eq!(status, 500, "{path}");
        let id = headers["x-request-id"].to_str().unwrap();
        let error: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(error["details"], format!("request id {id}"));
        assert!(!body.contains("secret"), "{body}");
    }
}

#[tokio::test]
async fn an_error_keeps_the_headers_of_its_handler_but_not_those_of_its_body() {
    let (status, headers, body) = fetch(app(), "/labelled").await;
    assert_eq!(code(status, &body), (502, "upstream_failed".to_owned()));
    assert_eq!(headers["x-relay-error"], "true");
    assert_eq!(headers["content-type"], "application/json");
    assert!(!body.contains("secret"), "{body}");
}

#[tokio::test]
async fn a_slow_handler_is_cut_off() {
    let (status, headers, body) = fetch(app(), "/slow").await;
    assert_eq!(code(status, &body), (503, "unavailable".to_owned()));
    assert!(headers.contains_key("retry-after"));
}

#[tokio::test]
async fn large_bodies_are_refused_whether_declared_or_not() {
    let declared = Request::post("/things/1")
        .header("content-length", "2001")
        .body(Body::empty())
        .unwrap();
    let (status, _, body) = call(app(), declared).await;
    assert_eq!(code(status, &body), (413, "payload_too_large".to_owned()));

    let post = |bytes| Request::post("/things/1").body(Body::from(vec![0; bytes]));
    assert_eq!(call(app(), post(2_001).unwrap()).await.0, 413);
    assert_eq!(call(app(), post(2_000).unwrap()).await.2, "2000");
}

/// The canonical lines of requests.
fn lines(log: &Capture) -> Vec<Value> {
    log.lines("kijko::request")
}

#[tokio::test]
async fn each_request_has_one_line_with_what_its_handler_added() {
    let log = Capture::start();
    let request = Request::post("/things/unlisted?token=hidden")
        .header("x-request-id", "trace-1")
        .header("content-length", "5")
        .body(Body::from("12345"))
        .unwrap();
    call(app(), request).await;
    let lines = lines(&log);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line = &lines[0];
    for (name, value) in [
        ("message", json!("request")),
        ("level", json!("INFO")),
        ("method", json!("POST")),
        ("route", json!("/things/{id}")),
        ("status", json!(200)),
        ("request_id", json!("trace-1")),
        ("request_bytes", json!(5)),
        ("response_bytes", json!(1)),
        ("thing", json!("a name")),
    ] {
        assert_eq!(line[name], value, "{name} of {line}");
    }
    assert!(line["duration_ms"].is_u64() && line["timestamp"].is_string());
    assert!(line.get("error_code").is_none() && line.get("slow").is_none());
    assert!(!line.to_string().contains("hidden") && !line.to_string().contains("unlisted"));
}

#[tokio::test]
async fn the_line_of_a_fault_has_its_code_and_its_cause() {
    let log = Capture::start();
    let (_, headers, _) = fetch(app(), "/fault").await;
    let lines = lines(&log);
    let line = &lines[0];
    assert_eq!(
        (&line["level"], &line["status"]),
        (&json!("ERROR"), &json!(500))
    );
    assert_eq!(line["error_code"], "internal");
    assert_eq!(line["cause"], "the secret of the fault");
    assert_eq!(
        line["request_id"],
        headers["x-request-id"].to_str().unwrap()
    );
}

#[tokio::test]
async fn a_flood_of_refused_requests_is_no_flood_of_the_log() {
    let log = Capture::start();
    let app = app();
    let start = std::time::Instant::now();
    for _ in 0..50 {
        fetch(app.clone(), "/refused").await;
        fetch(app.clone(), "/nowhere").await;
    }
    let most = 2 * (2 + start.elapsed().as_secs() as usize);
    let lines = lines(&log);
    assert!((2..=most).contains(&lines.len()), "{} lines", lines.len());
    assert!(lines.iter().all(|line| line["suppressed"].is_u64()));
}

#[tokio::test]
async fn probes_have_debug_lines() {
    let log = Capture::start();
    fetch(app(), "/health").await;
    fetch(pages(&server()), "/health").await;
    assert_eq!(lines(&log), Vec::<Value>::new());
}

#[tokio::test]
async fn a_request_whose_client_hangs_up_has_a_line_too() {
    let log = Capture::start();
    let request = Request::get("/slow").body(Body::empty()).unwrap();
    let answer = app().oneshot(request);
    let hung_up = tokio::time::timeout(Duration::from_millis(50), answer).await;
    assert!(hung_up.is_err());
    let lines = lines(&log);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["status"], 499);
    assert_eq!(lines[0]["error_code"], "client_closed_request");
}
