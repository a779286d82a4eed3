//! Who is not known takes nothing, and what is too much is refused before it is parsed.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::body::Bytes;
use futures_util::stream;

use super::{
    vendor::{Vendor, ok, sse},
    *,
};
use crate::domains::llm::gateway::MAX_BODIES_KIB;

async fn send(stack: &Stack, key: Option<&str>) -> (u16, bool) {
    let asked_for = Arc::new(AtomicBool::default());
    let asked = asked_for.clone();
    let body = stream::once(async move {
        asked.store(true, Ordering::Relaxed);
        Ok::<_, std::io::Error>(Bytes::from("{"))
    });
    let mut request = Request::post("/llm/v1/chat/completions");
    if let Some(key) = key {
        request = request.header("authorization", key);
    }
    let request = request.body(Body::from_stream(body)).unwrap();
    let response = stack.app.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    (status, asked_for.load(Ordering::Relaxed))
}

#[tokio::test]
async fn nothing_is_read_of_the_body_of_an_unidentified_caller() {
    let stack = Stack::new(&[]).await;
    assert_eq!(send(&stack, None).await, (401, false));
    assert_eq!(send(&stack, Some("Bearer homeless")).await, (403, false));
    assert_eq!(send(&stack, Some("Bearer known")).await, (400, true));
    assert!(stack.gateway.all.is_empty() && stack.gateway.organizations.is_empty());
    assert_eq!(stack.gateway.bodies.free(), MAX_BODIES_KIB);
}

#[tokio::test]
async fn a_call_gives_its_room_back() {
    let vendor = Vendor::new(vec![sse(OPENAI)]).await;
    let stack = Stack::new(&[("openai", vendor.url.as_str())]).await;
    assert_eq!(chat(&stack, &streamed()).await.content(), "Hello");
    stack.settled().await;
    while !stack.gateway.tasks.is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(stack.gateway.organizations.is_empty());
    assert_eq!(stack.gateway.bodies.free(), MAX_BODIES_KIB);
}

#[tokio::test]
async fn a_request_of_too_many_values_asks_for_nothing() {
    let stack = Stack::new(&[]).await;
    // The fakes' limit of bytes is 1 MiB.
    let lists = format!("[{}0]", "[],".repeat(200_000));
    let body: Value = json!({"model": "m", "input": "a"});
    let body = body.to_string().replace("\"a\"", &lists);
    let request = post("/llm/v1/embeddings").body(Body::from(body)).unwrap();
    let response = stack.app.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 400);
    let body = to_bytes(response.into_body(), 8 << 20).await.unwrap();
    assert!(String::from_utf8_lossy(&body).contains("too many values"));
    assert!(stack.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_vendors_answer_of_too_many_values_is_none() {
    let zeros = format!("{{\"choices\":[{}0]}}", "0,".repeat(1_000_000));
    let vendor = Vendor::new(vec![vec![ok("application/json", &zeros)]]).await;
    let stack = Stack::new(&[("openai", vendor.url.as_str())]).await;
    let got = chat(&stack, &question(json!({}))).await;
    assert_eq!((got.status, got.code().as_str()), (502, "vendor_malformed"));
}
