//! The webhooks in process, with an unreachable database.

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use kijko_core::telemetry::{capture::Capture, metrics::Metrics};
use serde_json::Value;
use tower::ServiceExt;

use super::*;
use crate::app::{SERVICE, test};

const ID: &str = "0b5e6f0e-6c4f-4b2f-9d57-0c9c2b1f3a10";

fn reflexes() -> (Router, impl Fn() -> String) {
    let context = test::context();
    let domain = domain(&context).unwrap();
    let metrics = Metrics::new(SERVICE, domain.series);
    let router = kijko_core::http::public(&test::server(&context), domain.routes);
    (router, move || metrics.encode().unwrap())
}

async fn call(app: &Router, request: Request<Body>) -> (StatusCode, String) {
    let response = app.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    (status, body["code"].as_str().unwrap_or("").to_owned())
}

fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path)
        .header("authorization", "Bearer very-secret")
        .body(body.into())
        .unwrap()
}

#[tokio::test]
async fn without_a_database_senders_are_to_try_again() {
    let (app, _) = reflexes();
    for path in [
        format!("/webhooks/reflex/{ID}"),
        format!("/webhooks/github/{ID}"),
        "/webhooks/reflex/nonsense".to_owned(),
    ] {
        let (status, code) = call(&app, post(&path, "{}")).await;
        assert_eq!(
            (status.as_u16(), code.as_str()),
            (503, "unavailable"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_large_body_is_refused_before_the_reflex_is_looked_up() {
    let (app, _) = reflexes();
    let large = vec![b'x'; 2 << 20];
    let (status, code) = call(&app, post(&format!("/webhooks/reflex/{ID}"), large)).await;
    assert_eq!((status.as_u16(), code.as_str()), (413, "payload_too_large"));
}

#[tokio::test]
async fn the_line_of_a_request_names_the_reflex_and_no_secret() {
    let log = Capture::start();
    let (app, metrics) = reflexes();
    let body = r#"{"email":"ada@example.test"}"#;
    call(&app, post(&format!("/webhooks/reflex/{ID}"), body)).await;
    let (line, text) = (&log.lines("kijko::request")[0], log.text());
    assert_eq!(line["reflex_id"], ID);
    assert_eq!(line["route"], "/webhooks/reflex/{id}");
    for hidden in ["very-secret", "ada@example.test"] {
        assert!(!text.contains(hidden), "{text}");
    }
    assert!(
        !metrics().contains(ID),
        "a label that a sender chooses would grow without end"
    );
}
