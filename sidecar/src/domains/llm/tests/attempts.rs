//! Retries and fallbacks, within their time, and what is held before each.

use std::time::{Duration, Instant};

use super::{
    vendor::{Vendor, ok, sse, status},
    *,
};
use crate::domains::llm::store::Spent;

fn overloaded() -> Vec<Step> {
    let body =
        json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    status(529, "", &body)
}

#[tokio::test]
async fn a_busy_vendor_is_asked_again_and_then_the_next_one() {
    let limited = status(
        429,
        "retry-after-ms: 20\r\n",
        &json!({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}),
    );
    let vendor = Vendor::new(vec![limited, overloaded()]).await;
    let other = Vendor::new(vec![sse(OPENAI)]).await;
    let targets = [
        ("anthropic", vendor.url.as_str()),
        ("openai", other.url.as_str()),
    ];
    let stack = Stack::with(&targets, json!({"retries": 1})).await;
    let got = chat(&stack, &streamed()).await;
    assert_eq!(got.content(), "Hello", "{}", got.text);
    assert_eq!((vendor.count(), other.count()), (2, 1));
    let raises = stack.store.raises.lock().unwrap().clone();
    assert_eq!(raises, [(0, Spent::Nothing), (1, Spent::Nothing)]);
    let settled = stack.settled().await;
    assert_eq!(
        (&settled["attempts"], &settled["prompt_tokens"]),
        (&json!(3), &json!(11))
    );
    assert_eq!(settled["target_index"], 1);
    // The first one asked for a pause: the next call begins with the other, and holds for it before.
    assert_eq!(chat(&stack, &streamed()).await.content(), "Hello");
    assert_eq!((vendor.count(), other.count()), (2, 2));
    let raises = stack.store.raises.lock().unwrap().clone();
    assert_eq!(raises[2..], [(1, Spent::Unsent)]);
    let settled = stack.settlement(1).await;
    assert_eq!(
        (&settled["attempts"], &settled["target_index"]),
        (&json!(1), &json!(1))
    );
}

#[tokio::test]
async fn a_target_without_room_is_not_called_first_in_place_of_a_paused_one() {
    let limited = status(
        429,
        "retry-after: 60\r\n",
        &json!({"error": {"message": "slow down"}}),
    );
    let vendor = Vendor::new(vec![limited, sse(OPENAI)]).await;
    let other = Vendor::new(vec![sse(OPENAI)]).await;
    let targets = [
        ("openai", vendor.url.as_str()),
        ("openai", other.url.as_str()),
    ];
    let stack = Stack::new(&targets).await;
    assert_eq!(chat(&stack, &streamed()).await.content(), "Hello");
    assert_eq!((vendor.count(), other.count()), (1, 1));
    stack.store.raises.lock().unwrap().clear();
    *stack.store.refuses_raise.lock().unwrap() = Some("budget_exceeded");
    let got = chat(&stack, &streamed()).await;
    assert_eq!(got.content(), "Hello", "{}", got.text);
    assert_eq!((vendor.count(), other.count()), (2, 1), "the paused one");
    let raises = stack.store.raises.lock().unwrap().clone();
    assert_eq!(raises, [(1, Spent::Unsent)]);
    let settled = stack.settlement(1).await;
    assert_eq!(
        (&settled["attempts"], &settled["target_index"]),
        (&json!(1), &json!(0))
    );
}

#[tokio::test]
async fn a_vendor_that_stops_before_its_first_piece_is_replaced_and_its_use_stays_held() {
    let begins = ANTHROPIC.split_once("event: ping").unwrap().0;
    let silent = vec![ok("text/event-stream", begins), Step::Hang];
    let vendor = Vendor::new(vec![silent]).await;
    let other = Vendor::new(vec![sse(GEMINI)]).await;
    let targets = [
        ("anthropic", vendor.url.as_str()),
        ("gemini", other.url.as_str()),
    ];
    let stack = Stack::with(&targets, json!({"first_token_seconds": 1})).await;
    let got = chat(&stack, &streamed()).await;
    assert_eq!(got.content(), "Hello", "{}", got.text);
    let (target, spent) = stack.store.raises.lock().unwrap()[0];
    let Spent::Counted { usage, estimated } = spent else {
        panic!("{spent:?}");
    };
    assert_eq!((target, usage.input, estimated), (1, 11, true));
    assert!(stack.settled().await["first_token_ms"].as_u64().unwrap() >= 1_000);
}

#[tokio::test]
async fn an_attempt_of_which_nothing_is_known_stays_at_its_hold() {
    let vendor = Vendor::new(vec![vec![Step::Hang]]).await;
    let more = json!({"time_budget_seconds": 1});
    let stack = Stack::with(&[("openai", &vendor.url)], more).await;
    let got = chat(&stack, &question(json!({}))).await;
    assert_eq!((got.status, got.code().as_str()), (504, "vendor_timeout"));
    let settled = stack.settled().await;
    assert!(settled.get("prompt_tokens").is_none() && settled["estimated"] == true);
}

#[tokio::test]
async fn nobody_there_costs_nothing_and_the_next_one_answers() {
    let other = Vendor::new(vec![sse(OPENAI)]).await;
    let stack = Stack::new(&[("openai", "http://localhost:1"), ("openai", &other.url)]).await;
    assert_eq!(chat(&stack, &streamed()).await.content(), "Hello");
    assert_eq!(stack.store.raises.lock().unwrap()[0], (1, Spent::Nothing));
    assert_eq!(stack.settled().await["target_index"], 1);
}

#[tokio::test]
async fn a_private_address_that_is_not_allowed_is_not_called() {
    let vendor = Vendor::new(vec![sse(OPENAI)]).await;
    let url = vendor.url.replace("localhost", "127.0.0.1");
    let stack = Stack::new(&[("openai", &url)]).await;
    let got = chat(&stack, &streamed()).await;
    assert_eq!((got.status, vendor.count()), (502, 0));
    let settled = stack.settled().await;
    assert_eq!(settled["prompt_tokens"], 0);
    assert!(settled.get("target_index").is_none(), "nothing was used");
}

#[tokio::test]
async fn retries_end_with_the_time_budget() {
    let limited = status(
        429,
        "retry-after: 30\r\n",
        &json!({"error": {"message": "slow down"}}),
    );
    let vendor = Vendor::new(vec![limited]).await;
    let more = json!({"retries": 5, "time_budget_seconds": 2});
    let stack = Stack::with(&[("openai", &vendor.url)], more).await;
    let start = Instant::now();
    let got = chat(&stack, &streamed()).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (429, "vendor_rate_limited")
    );
    assert_eq!(got.headers["retry-after"], "30");
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "no wait beyond the budget"
    );
    assert_eq!(vendor.count(), 1);
}

#[tokio::test]
async fn a_budget_without_room_ends_the_attempts() {
    let vendor = Vendor::new(vec![overloaded()]).await;
    let stack = Stack::with(&[("openai", &vendor.url)], json!({"retries": 3})).await;
    *stack.store.refuses_raise.lock().unwrap() = Some("budget_exceeded");
    let got = chat(&stack, &streamed()).await;
    assert_eq!((got.status, got.code().as_str()), (429, "budget_exceeded"));
    assert_eq!(got.headers["x-should-retry"], "false");
    assert_eq!(vendor.count(), 1);
    assert_eq!(stack.settled().await["status"], "failed");
}

#[tokio::test]
async fn a_target_that_cannot_take_the_request_is_left_out() {
    let anthropic = Vendor::new(vec![sse(ANTHROPIC)]).await;
    let gemini = Vendor::new(vec![sse(GEMINI)]).await;
    let targets = [
        ("anthropic", anthropic.url.as_str()),
        ("gemini", gemini.url.as_str()),
    ];
    let stack = Stack::new(&targets).await;
    let two = question(json!({"stream": true, "n": 2}));
    assert_eq!(chat(&stack, &two).await.content(), "Hello");
    assert_eq!(anthropic.count(), 0);
    let stack = Stack::new(&targets[..1]).await;
    let got = chat(&stack, &two).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (400, "unsupported_parameter")
    );
    assert_eq!(got.json()["error"]["param"], "n");
}

#[tokio::test]
async fn calls_at_once_of_a_provider_are_bounded() {
    let slow = vec![
        Step::Wait(Duration::from_millis(300)),
        ok("text/event-stream", OPENAI),
    ];
    let vendor = Vendor::new(vec![slow]).await;
    let stack = Stack::new(&[("openai", &vendor.url)]).await;
    stack.store.opened.lock().unwrap().as_mut().unwrap().targets[0].max_concurrency = Some(1);
    let body = streamed();
    let (one, two) = tokio::join!(chat(&stack, &body), chat(&stack, &body));
    let mut both = [one.status, two.status];
    both.sort_unstable();
    assert_eq!(both, [200, 429]);
    let refused = if one.status == 429 { one } else { two };
    assert_eq!(
        (refused.code().as_str(), &refused.headers["retry-after"]),
        ("provider_busy", &"1".parse().unwrap())
    );
    assert_eq!(
        chat(&stack, &body).await.status,
        200,
        "the place is free again"
    );
}
