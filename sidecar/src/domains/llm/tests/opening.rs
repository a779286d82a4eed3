//! Calls that the API opens in one step, and settlements that the client does not wait for.

use std::time::Duration;

use super::{
    vendor::{Vendor, whole},
    *,
};

pub(super) fn completion() -> Value {
    json!({
        "id": "theirs", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16},
    })
}

/// What the API answers to the gateway, for a provider whose key was set then.
pub(super) fn opened(url: &str, key_set_at: i64) -> (u16, Value) {
    let target = json!({
        "index": 0, "provider": "p", "kind": "openai", "base_url": url, "key": null, "key_set_at": key_set_at, "own_key": true,
        "model": "the-model", "max_output_tokens": 100, "max_concurrency": null, "provider_id": "00000000-0000-4000-8000-00000000000a",
        "allowed_hosts": "localhost",
    });
    let opened = json!({
        "org_id": "00000000-0000-4000-8000-00000000000b", "input_tokens": 40, "targets": [target], "retries": 0,
        "time_budget_seconds": 20, "first_token_seconds": 10, "idle_seconds": 10,
    });
    (200, json!({ "opened": opened }))
}

pub(super) fn refused(code: &str) -> (u16, Value) {
    (429, json!({"code": code, "message": "refused"}))
}

/// The organization of the callers, as the fake API says.
const ORGANIZATION: uuid::Uuid = uuid::Uuid::from_u128(7);

async fn answering() -> (Vendor, Stack) {
    let vendor = Vendor::new(vec![whole(&completion())]).await;
    let stack = Stack::new(&[]).await;
    *stack.store.opened.lock().unwrap() = None;
    (vendor, stack)
}

#[tokio::test]
async fn one_step_opens_a_call_and_the_key_is_kept() {
    let (vendor, stack) = answering().await;
    for n in 0..2 {
        stack.answers.lock().unwrap().push(opened(&vendor.url, 7));
        let got = chat(&stack, &question(json!({}))).await;
        assert_eq!(got.status, 200, "{}", got.text);
        assert_eq!(stack.settlement(n).await["prompt_tokens"], 11);
        assert!(vendor.request(n).0.contains("Bearer sk-very-secret-0"));
    }
    assert_eq!(*stack.store.keys.lock().unwrap(), 1);
    // The key that the API names is another one than the database gives: it may be for another address.
    stack.answers.lock().unwrap().push(opened(&vendor.url, 8));
    let got = chat(&stack, &question(json!({}))).await;
    assert_eq!((got.status, vendor.count()), (404, 2));
    assert_eq!(stack.settlement(2).await["prompt_tokens"], 0);
}

#[tokio::test]
async fn a_client_has_its_answer_before_the_call_is_settled() {
    let (vendor, stack) = answering().await;
    let held = stack.store.holds_settlements.clone().lock_owned().await;
    stack.answers.lock().unwrap().push(opened(&vendor.url, 7));
    assert_eq!(chat(&stack, &question(json!({}))).await.status, 200);
    assert!(stack.store.settled.lock().unwrap().is_empty());
    drop(held);
    assert_eq!(stack.settled().await["completion_tokens"], 5);
}

#[tokio::test]
async fn a_refusal_counts_once_former_calls_are_settled() {
    let (vendor, stack) = answering().await;
    let settling = stack.gateway.settler.outstanding.begin(ORGANIZATION);
    // The last one is the first answer.
    *stack.answers.lock().unwrap() = vec![opened(&vendor.url, 7), refused("budget_exceeded")];
    let body = question(json!({}));
    let settles = async {
        while stack.asked.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        drop(settling);
    };
    let (got, ()) = tokio::join!(chat(&stack, &body), settles);
    assert_eq!((got.status, stack.asked.lock().unwrap().len()), (200, 2));
    // Another refusal always counts, and this one if nothing is being settled.
    let settling = stack.gateway.settler.outstanding.begin(ORGANIZATION);
    let mut settling = Some(settling);
    for (code, asked) in [("rate_limited", 3), ("quota_exceeded", 4)] {
        stack.answers.lock().unwrap().push(refused(code));
        let got = chat(&stack, &body).await;
        assert_eq!((got.status, got.code().as_str()), (429, code));
        assert_eq!(stack.asked.lock().unwrap().len(), asked);
        settling.take();
    }
}

#[tokio::test]
async fn a_call_that_may_be_open_and_was_never_sent_is_released() {
    let (vendor, stack) = answering().await;
    stack
        .answers
        .lock()
        .unwrap()
        .push((500, json!({"code": "57014"})));
    assert_eq!(chat(&stack, &question(json!({}))).await.status, 503);
    let released = tokio::time::timeout(Duration::from_secs(10), stack.settled());
    let released = released.await.unwrap();
    assert_eq!(
        (&released["error_code"], &released["completion_tokens"]),
        (&json!("not_sent"), &json!(0))
    );
    assert_eq!(vendor.count(), 0);
}
