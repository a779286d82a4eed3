//! The router in process, with a database that is not there.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, Request, StatusCode},
    routing::post,
};
use futures_util::future::join_all;
use serde_json::Value;
use tower::ServiceExt;
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt},
};

use super::*;
use crate::config::Config;

/// Port 1 of this machine: connections are refused at once.
fn state() -> AppState {
    let config = Config::from_lookup(&|name| match name {
        "DATABASE_URL" => {
            Some("postgres://nobody:secret@127.0.0.1:1/none?sslmode=disable".to_owned())
        }
        "KIJKO_REQUEST_TIMEOUT_SECONDS" => Some("1".to_owned()),
        "KIJKO_MAX_BODY_BYTES" => Some("2000".to_owned()),
        _ => None,
    })
    .unwrap();
    AppState {
        db: Db::new(&config.database).unwrap(),
        metrics: Metrics::default(),
        http: config.http,
        worker: config.worker,
        running: Arc::default(),
        wakeups: Arc::default(),
        providers: vec!["echo"],
        stripe: Arc::new(config.stripe),
        stop: CancellationToken::new(),
    }
}

fn app() -> Router {
    let routes = Router::new()
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
            "/body",
            post(|body: Bytes| async move { body.len().to_string() }),
        );
    wrap(routes, state())
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

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn health_needs_no_database() {
    let (status, headers, body) = fetch(router(state()), "/health").await;
    assert_eq!(status, 200);
    assert_eq!(
        json(&body),
        serde_json::json!({"status": "ok", "version": crate::VERSION})
    );
    assert!(headers.contains_key("x-request-id"));
    assert!(
        headers["x-process-time"]
            .to_str()
            .unwrap()
            .parse::<f64>()
            .unwrap()
            >= 0.0
    );
}

#[tokio::test]
async fn without_a_database_it_is_down_and_says_which_part() {
    let (status, _, body) = fetch(router(state()), "/ready").await;
    assert_eq!(status, 503);
    let body = json(&body);
    assert_eq!(body["status"], "down");
    assert_eq!(body["checks"]["database"]["status"], "down");
    assert_eq!(body["checks"]["listener"]["status"], "degraded");
    assert_eq!(body["checks"]["llm"]["providers"][0], "echo");
    assert_eq!(
        body["checks"]["llm"]["recent"][0],
        serde_json::json!({"name": "echo", "status": "ok", "calls": 0, "errors": 0, "error_rate": 0.0})
    );
    assert!(!body.to_string().contains("secret"));
}

#[tokio::test]
async fn a_vendor_whose_calls_fail_is_degraded_and_never_down() {
    use crate::llm::{LlmError, LlmFault, Progress};
    let state = state();
    let ended = |fault: Option<LlmFault>| {
        let error = fault.map(|fault| LlmError::new(fault, "x"));
        let mut call = state.metrics.llm_call("echo", Progress::default());
        call.ended(error.as_ref());
    };
    for _ in 0..8 {
        ended(Some(LlmFault::Refused));
    }
    let of_echo = async || {
        let (_, _, body) = fetch(router(state.clone()), "/ready").await;
        json(&body)["checks"]["llm"].clone()
    };
    assert_eq!(
        of_echo().await["status"],
        "ok",
        "a refusal is not the vendor's fault"
    );
    for _ in 0..8 {
        ended(Some(LlmFault::Overloaded));
    }
    let llm = of_echo().await;
    assert_eq!(
        (&llm["status"], &llm["recent"][0]["error_rate"]),
        (&"degraded".into(), &0.5.into())
    );
    ended(None);
    assert_eq!(of_echo().await["status"], "ok");
}

#[tokio::test]
async fn metrics_are_there_without_a_database() {
    let app = router(state());
    fetch(app.clone(), "/health").await;
    let (status, headers, body) = fetch(app, "/metrics").await;
    assert_eq!(status, 200);
    assert!(
        headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    assert!(
        body.contains("kijko_database_up 0")
            && body.contains(r#"route="/health""#)
            && body.ends_with("# EOF\n")
    );
}

#[tokio::test]
async fn a_sane_request_id_comes_back() {
    let request = Request::get("/health")
        .header("X-Request-ID", "trace-1")
        .body(Body::empty())
        .unwrap();
    assert_eq!(
        call(router(state()), request).await.1["x-request-id"],
        "trace-1"
    );
}

#[tokio::test]
async fn unknown_paths_and_methods_are_errors_of_the_one_shape() {
    let (status, _, body) = fetch(router(state()), "/nowhere/1").await;
    assert_eq!(
        (status.as_u16(), json(&body)["code"].as_str()),
        (404, Some("not_found"))
    );
    let request = Request::delete("/health").body(Body::empty()).unwrap();
    let (status, _, body) = call(router(state()), request).await;
    assert_eq!(
        (status.as_u16(), json(&body)["code"].as_str()),
        (405, Some("method_not_allowed"))
    );
}

#[tokio::test]
async fn unknown_paths_share_one_label() {
    let app = router(state());
    fetch(app.clone(), "/nowhere/1").await;
    let (_, _, body) = fetch(app, "/metrics").await;
    assert!(
        body.contains(r#"route="unmatched",status="404""#) && !body.contains("nowhere"),
        "{body}"
    );
}

#[tokio::test]
async fn unknown_methods_share_one_label() {
    let app = router(state());
    let methods = ["ABCDEFG", "get", "PROPFIND", "TRACE", "CONNECT"];
    for method in methods {
        let request = Request::builder().method(method).uri("/health");
        call(app.clone(), request.body(Body::empty()).unwrap()).await;
    }
    let (_, _, body) = fetch(app, "/metrics").await;
    assert!(body.contains(r#"method="OTHER""#), "{body}");
    for method in methods {
        let label = format!(r#"method="{method}""#);
        assert!(!body.contains(&label), "{method}: {body}");
    }
}

#[tokio::test]
async fn a_panic_and_a_fault_are_opaque_and_carry_the_request_id() {
    for path in ["/panic", "/fault"] {
        let (status, headers, body) = fetch(app(), path).await;
        assert_eq!(status, 500, "{path}");
        let id = headers["x-request-id"].to_str().unwrap();
        assert_eq!(json(&body)["details"], format!("request id {id}"));
        assert!(!body.contains("secret"), "{body}");
    }
}

#[tokio::test]
async fn a_slow_handler_is_cut_off() {
    let (status, headers, body) = fetch(app(), "/slow").await;
    assert_eq!(
        (status.as_u16(), json(&body)["code"].as_str()),
        (503, Some("unavailable"))
    );
    assert!(headers.contains_key("retry-after"));
}

#[tokio::test]
async fn large_bodies_are_refused_whether_declared_or_not() {
    let declared = Request::post("/body")
        .header("content-length", "2001")
        .body(Body::empty())
        .unwrap();
    let (status, _, body) = call(app(), declared).await;
    assert_eq!(
        (status.as_u16(), json(&body)["code"].as_str()),
        (413, Some("payload_too_large"))
    );

    let undeclared = Request::post("/body")
        .body(Body::from(vec![0; 2001]))
        .unwrap();
    assert_eq!(call(app(), undeclared).await.0, 413);
    let fitting = Request::post("/body")
        .body(Body::from(vec![0; 2000]))
        .unwrap();
    assert_eq!(call(app(), fitting).await.2, "2000");
}

#[tokio::test]
async fn at_shutdown_it_is_no_longer_ready() {
    let state = state();
    state.stop.cancel();
    let (_, _, body) = fetch(router(state), "/ready").await;
    assert_eq!(json(&body)["checks"]["worker"]["stopping"], true);
}

fn delivery(body: &str, header: Option<&str>) -> Request<Body> {
    let request = Request::post("/webhooks/stripe");
    let request = header.into_iter().fold(request, |request, header| {
        request.header("stripe-signature", header)
    });
    request.body(Body::from(body.to_owned())).unwrap()
}

fn with_secret() -> Router {
    let mut state = state();
    state.stripe = Arc::new(StripeConfig {
        webhook_secrets: vec![crate::secret::Secret::new("whsec_very_secret")],
    });
    router(state)
}

#[tokio::test]
async fn without_a_secret_stripes_webhook_says_that_it_is_not_configured() {
    let (status, _, body) = call(router(state()), delivery("{}", None)).await;
    assert_eq!(
        (status.as_u16(), json(&body)["code"].as_str()),
        (503, Some("not_configured"))
    );
}

#[tokio::test]
async fn an_unsigned_delivery_is_refused_before_it_is_read() {
    for header in [None, Some("t=1,v1=00"), Some("nonsense")] {
        let (status, _, body) = call(with_secret(), delivery("not JSON", header)).await;
        assert_eq!(
            (status.as_u16(), json(&body)["code"].as_str()),
            (400, Some("invalid_signature"))
        );
        assert!(!body.contains("very_secret"));
    }
    let (_, _, metrics) = {
        let app = with_secret();
        call(app.clone(), delivery("{}", None)).await;
        fetch(app, "/metrics").await
    };
    assert!(
        metrics.contains(r#"kijko_stripe_rejected_total{reason="signature_missing"} 1"#),
        "{metrics}"
    );
}

/// Counts the log lines of Stripe's webhook.
struct Lines(Arc<AtomicUsize>);

impl<S: tracing::Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "kijko_sidecar::stripe::webhook" {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test]
async fn a_flood_of_unsigned_deliveries_is_no_flood_of_the_log() {
    let lines = Arc::<AtomicUsize>::default();
    let log = Registry::default().with(Lines(lines.clone()));
    let _logged = tracing::subscriber::set_default(log);
    let app = with_secret();
    let flood = (0..50).map(|_| call(app.clone(), delivery("{}", None)));
    for (status, _, _) in join_all(flood).await {
        assert_eq!(status, 400);
    }
    let lines = lines.load(Ordering::Relaxed);
    assert!(lines < 50, "{lines} lines");
    let (_, _, metrics) = fetch(app, "/metrics").await;
    assert!(
        metrics.contains(r#"kijko_stripe_rejected_total{reason="signature_missing"} 50"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_signed_delivery_without_a_database_is_to_be_sent_again() {
    use aws_lc_rs::hmac;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"whsec_very_secret");
    for (sent, expected) in [
        (
            r#"{"id":"evt_1","type":"a","created":1}"#,
            (503, "unavailable"),
        ),
        ("{}", (400, "bad_request")),
        ("not JSON", (400, "bad_request")),
    ] {
        let tag = hmac::sign(&key, format!("{now}.{sent}").as_bytes());
        let hex: String = tag
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let header = format!("t={now},v1={hex}");
        let (status, _, body) = call(with_secret(), delivery(sent, Some(&header))).await;
        assert_eq!(
            (status.as_u16(), json(&body)["code"].as_str().unwrap()),
            expected
        );
    }
}
