//! The webhook in process, with an unreachable database.

use std::time::SystemTime;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use kijko_core::{
    secret::Secret,
    telemetry::{capture::Capture, metrics::Metrics},
};
use serde_json::Value;
use tower::ServiceExt;

use super::*;
use crate::{
    app::{SERVICE, test},
    stripe_signature as signature,
};

const SECRET: &str = "whsec_very_secret";

fn delivery(body: &str, header: Option<&str>) -> Request<Body> {
    let request = Request::post("/webhooks/stripe");
    let request = header.into_iter().fold(request, |request, header| {
        request.header("stripe-signature", header)
    });
    request.body(Body::from(body.to_owned())).unwrap()
}

fn signed(body: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    signature::tests::sign(SECRET, now.unwrap().as_secs(), body.as_bytes())
}

/// The routes as the service has them, and the text of `/metrics` so far.
fn stripe(secrets: &[&str]) -> (Router, impl Fn() -> String) {
    let config = StripeConfig {
        webhook_secrets: secrets.iter().map(|secret| Secret::new(*secret)).collect(),
    };
    let context = test::context();
    let domain = domain(config, &context);
    let metrics = Metrics::new(SERVICE, domain.series);
    let router = kijko_core::http::public(&test::server(&context), domain.routes);
    (router, move || metrics.encode().unwrap())
}

async fn call(app: &Router, request: Request<Body>) -> (StatusCode, String, String) {
    let response = app.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    let body: Value = serde_json::from_str(&text).unwrap();
    (status, body["code"].as_str().unwrap_or("").to_owned(), text)
}

#[tokio::test]
async fn without_a_secret_the_webhook_is_not_configured() {
    let (app, _) = stripe(&[]);
    let (status, code, _) = call(&app, delivery("{}", None)).await;
    assert_eq!((status.as_u16(), code.as_str()), (503, "not_configured"));
}

#[tokio::test]
async fn an_unsigned_delivery_is_refused_before_it_is_read() {
    let (app, metrics) = stripe(&[SECRET]);
    for header in [None, Some("t=1,v1=00"), Some("nonsense")] {
        let (status, code, body) = call(&app, delivery("not JSON", header)).await;
        assert_eq!((status.as_u16(), code.as_str()), (400, "invalid_signature"));
        assert!(!body.contains("very_secret"));
    }
    let metrics = metrics();
    assert!(
        metrics.contains(r#"kijko_stripe_rejected_total{reason="signature_missing"} 1"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_signed_delivery_without_a_database_is_to_be_sent_again() {
    let (app, _) = stripe(&[SECRET]);
    for (sent, expected) in [
        (
            r#"{"id":"evt_1","type":"a","created":1}"#,
            (503, "unavailable"),
        ),
        ("{}", (400, "bad_request")),
        ("not JSON", (400, "bad_request")),
    ] {
        let header = signed(sent);
        let (status, code, _) = call(&app, delivery(sent, Some(&header))).await;
        assert_eq!((status.as_u16(), code.as_str()), expected);
    }
}

#[tokio::test]
async fn the_line_of_a_delivery_names_the_event_and_no_secret() {
    let log = Capture::start();
    let (app, _) = stripe(&[SECRET]);
    let sent = r#"{"id":"evt_1","type":"invoice.paid","created":1,"data":{"object":{"email":"ada@example.test"}}}"#;
    let header = signed(sent);
    call(&app, delivery(sent, Some(&header))).await;
    let lines = log.lines("kijko::request");
    let (line, text) = (&lines[0], log.text());
    assert_eq!(line["stripe_event_id"], "evt_1");
    assert_eq!(line["stripe_event_type"], "invoice.paid");
    assert_eq!(line["route"], "/webhooks/stripe");
    assert_eq!(
        (&line["status"], &line["error_code"]),
        (&503.into(), &"unavailable".into())
    );
    assert_eq!(line["request_bytes"], sent.len());
    for hidden in [header.as_str(), "very_secret", "ada@example.test"] {
        assert!(!text.contains(hidden), "{text}");
    }
}

#[tokio::test]
async fn a_flood_of_unsigned_deliveries_is_counted_and_is_no_flood_of_the_log() {
    let log = Capture::start();
    let (app, metrics) = stripe(&[SECRET]);
    for _ in 0..50 {
        let (status, ..) = call(&app, delivery("{}", None)).await;
        assert_eq!(status, 400);
    }
    let lines = log.text().matches("signature_missing").count();
    assert!((1..50).contains(&lines), "{lines} lines");
    let metrics = metrics();
    assert!(
        metrics.contains(r#"kijko_stripe_rejected_total{reason="signature_missing"} 50"#),
        "{metrics}"
    );
}
