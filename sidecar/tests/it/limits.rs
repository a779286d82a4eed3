//! Refused requests are limited by the database's policies; accepted ones are not.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, Response},
};
use kijko_core::runtime::assemble;
use kijko_sidecar::app;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use uuid::Uuid;

use crate::support;

const SECRET: &str = "whsec_limits";
/// Of the policy `failed_requests`, as the migrations make it.
const BURST: usize = 60;

fn app() -> Router {
    let environment = support::environment(&[("STRIPE_WEBHOOK_SECRET", SECRET)]);
    let settings = app::settings_from(&environment).expect("the settings are valid");
    let assembly = assemble(settings, &CancellationToken::new()).expect("the parts fit");
    assembly.public
}

/// A delivery from somewhere, through a proxy that saw `address`.
async fn deliver(app: &Router, address: &str, body: &str, signature: &str) -> Response<Body> {
    let request = Request::post("/webhooks/stripe")
        .header("x-forwarded-for", format!("198.51.100.7, {address}"))
        .header("stripe-signature", signature)
        .body(Body::from(body.to_owned()))
        .unwrap();
    app.clone().oneshot(request).await.unwrap()
}

/// One network in 2^32, so that no other test has spent its limit.
fn somewhere() -> String {
    let id = Uuid::new_v4().as_u128();
    format!("2001:db8:{:x}:{:x}::1", id as u16, (id >> 16) as u16)
}

fn signature(body: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signed = format!("{}.{body}", now.as_secs());
    let tag = hmac::sign(&key, signed.as_bytes());
    let hex: String = tag
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("t={},v1={hex}", now.as_secs())
}

#[tokio::test]
async fn refusals_are_limited_by_address_and_signed_events_always_pass() {
    let app = app();
    let (address, other) = (somewhere(), somewhere());
    let mut refused = 0;
    let limited = loop {
        let response = deliver(&app, &address, "{}", "t=1,v1=00").await;
        if response.status() == 429 {
            break response;
        }
        assert_eq!(response.status(), 400);
        refused += 1;
        assert!(refused < 10 * BURST, "never limited");
    };
    assert!(refused >= BURST, "limited after {refused}");
    for name in [
        "retry-after",
        "ratelimit",
        "ratelimit-policy",
        "x-request-id",
    ] {
        assert!(limited.headers().contains_key(name), "{name}");
    }
    assert_eq!(limited.headers()["x-ratelimit-resource"], "failed_requests");
    let body = to_bytes(limited.into_body(), 10_000).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["code"], "rate_limited");
    assert_eq!(body["details"], "failed_requests: more than 60 in 60 s");

    let elsewhere = deliver(&app, &other, "{}", "t=1,v1=00").await;
    assert_eq!(elsewhere.status(), 400);
    let id = Uuid::new_v4().simple();
    let event = format!(
        r#"{{"id":"evt_{id}","type":"test.limits","created":1,"livemode":false,"data":{{"object":{{}}}}}}"#
    );
    let taken = deliver(&app, &address, &event, &signature(&event)).await;
    assert_eq!(taken.status(), 200);
}
