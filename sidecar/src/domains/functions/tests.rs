//! The route in process, with an unreachable database and an API that is a fake, or not there.

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode, header},
    response::IntoResponse,
    routing::post,
};
use kijko_core::telemetry::capture::Capture;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::app::test;

fn functions(rest_url: Option<&str>) -> Router {
    let context = test::context();
    let url = rest_url.map(|url| url.parse().unwrap());
    let domain = domain(url, &context).unwrap();
    kijko_core::http::public(&test::server(&context), domain.routes)
}

async fn call(app: &Router, path: &str) -> (u16, String, HeaderMap) {
    let request = Request::post(path)
        .header("authorization", "Bearer very-secret")
        .body(Body::empty())
        .unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let code = body["code"].as_str().unwrap_or_default().to_owned();
    (status, code, headers)
}

/// An API whose `authorize_function` answers by the name; it sees the caller's own token.
async fn fake_api() -> String {
    let authorize = async |headers: HeaderMap, Json(body): Json<Value>| {
        let refuse = |status: u16, code: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let body = json!({"code": code, "message": "", "details": null, "hint": null});
            (status, [("retry-after", "7")], Json(body)).into_response()
        };
        match body["name"].as_str().unwrap() {
            _ if headers[header::AUTHORIZATION] != "Bearer very-secret" => refuse(401, "lost"),
            "missing" => refuse(404, "not_found"),
            "forbidden" => refuse(403, "permission_denied"),
            "busy" => refuse(429, "rate_limited"),
            "broken" => refuse(500, "internal"),
            _ => Json(json!({"ticket": "kjs1.0000000000000000.AAAA"})).into_response(),
        }
    };
    let routes = Router::new().route("/rpc/authorize_function", post(authorize));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, routes).into_future());
    url
}

#[tokio::test]
async fn who_is_refused_gets_the_apis_own_words_and_the_platforms_faults_are_marked() {
    let app = functions(Some(&fake_api().await));
    for (name, status, code, relay) in [
        ("missing", 404, "not_found", true),
        ("missing/a/b", 404, "not_found", true),
        ("forbidden", 403, "permission_denied", false),
        ("busy", 429, "rate_limited", false),
        ("broken", 503, "unavailable", true),
        // The ticket cannot be opened: there is no database.
        ("good", 503, "unavailable", true),
    ] {
        let (got, got_code, headers) = call(&app, &format!("/functions/v1/{name}")).await;
        assert_eq!((got, got_code.as_str()), (status, code), "{name}");
        assert_eq!(headers.contains_key("x-relay-error"), relay, "{name}");
    }
    let (_, _, headers) = call(&app, "/functions/v1/busy").await;
    assert_eq!(headers["retry-after"], "7");
}

#[tokio::test]
async fn without_an_api_nobody_is_let_through() {
    let (status, code, headers) = call(&functions(None), "/functions/v1/a").await;
    assert_eq!((status, code.as_str()), (503, "not_configured"));
    assert_eq!(headers["x-relay-error"], "true");
    let log = Capture::start();
    let app = functions(Some("http://127.0.0.1:1"));
    let (status, code, _) = call(&app, "/functions/v1/a?token=hidden").await;
    assert_eq!((status, code.as_str()), (503, "unavailable"));
    let text = log.text();
    assert!(
        !text.contains("very-secret") && !text.contains("hidden"),
        "{text}"
    );
}
