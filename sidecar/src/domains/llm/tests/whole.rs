//! Answers that are not streamed, and requests that are refused.

use kijko_core::telemetry::capture::Capture;

use super::{
    vendor::{Vendor, sse, status, whole},
    *,
};

fn completion() -> Value {
    json!({
        "id": "theirs", "object": "chat.completion", "created": 1, "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello", "refusal": null}, "logprobs": null, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16, "prompt_tokens_details": {"cached_tokens": 4}},
    })
}

#[tokio::test]
async fn a_whole_answer_of_every_vendor() {
    for (kind, body, model) in VENDORS {
        let steps = match kind {
            "openai" => whole(&completion()),
            _ => sse(body),
        };
        let vendor = Vendor::new(vec![steps]).await;
        let stack = Stack::with(&[(kind, &vendor.url)], json!({"record_content": true})).await;
        let got = chat(&stack, &question(json!({}))).await;
        let answer = got.json();
        assert_eq!(
            (got.status, &answer["object"]),
            (200, &json!("chat.completion")),
            "{answer}"
        );
        assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
        assert_eq!(answer["model"], model);
        let choice = &answer["choices"][0];
        assert_eq!(choice["message"]["content"], "Hello");
        assert_eq!(choice["finish_reason"], "stop");
        assert_eq!(answer["usage"]["prompt_tokens"], 11);
        let settled = stack.settled().await;
        assert_eq!(
            (&settled["completion_tokens"], &settled["estimated"]),
            (&json!(5), &json!(false))
        );
        assert_eq!(settled["prompt"][0]["content"], "Say hello");
        assert_eq!(settled["answer"][0]["message"]["content"], "Hello");
    }
}

#[tokio::test]
async fn a_vendor_that_counts_nothing_is_counted() {
    let mut answer = completion();
    answer.as_object_mut().unwrap().remove("usage");
    let vendor = Vendor::new(vec![whole(&answer)]).await;
    let stack = Stack::new(&[("openai", &vendor.url)]).await;
    assert_eq!(chat(&stack, &question(json!({}))).await.status, 200);
    let settled = stack.settled().await;
    assert_eq!(
        (&settled["estimated"], &settled["prompt_tokens"]),
        (&json!(true), &json!(40))
    );
    assert!(settled["completion_tokens"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn the_question_goes_to_the_database_before_the_vendor() {
    let vendor = Vendor::new(vec![whole(&completion())]).await;
    let stack = Stack::new(&[("openai", &vendor.url)]).await;
    chat(
        &stack,
        &question(json!({"n": 2, "max_completion_tokens": 9, "store": true})),
    )
    .await;
    let asked = stack.asked.lock().unwrap()[0].clone();
    assert_eq!(
        (&asked["model"], &asked["kind"]),
        (&json!("m"), &json!("chat"))
    );
    assert_eq!(
        (&asked["choices"], &asked["max_output_tokens"]),
        (&json!(2), &json!(9))
    );
    assert_eq!(asked["fields"], json!(["store"]));
    assert!(asked["input_tokens"].as_u64().unwrap() > 5);
    let (_, body) = vendor.request(0);
    assert_eq!(body["max_completion_tokens"], 100, "what was held");
}

#[tokio::test]
async fn refusals_have_openais_shape_and_reach_no_vendor() {
    let vendor = Vendor::new(vec![whole(&completion())]).await;
    let stack = Stack::new(&[("openai", &vendor.url)]).await;
    for (model, status, code, kind, retry) in [
        (
            "poor",
            429,
            "budget_exceeded",
            "insufficient_quota",
            Some("false"),
        ),
        (
            "forbidden",
            403,
            "model_not_allowed",
            "permission_error",
            None,
        ),
        (
            "missing",
            404,
            "model_not_found",
            "invalid_request_error",
            None,
        ),
        ("expired", 503, "unavailable", "server_error", None),
    ] {
        let got = chat(&stack, &question(json!({"model": model}))).await;
        assert_eq!((got.status, got.code().as_str()), (status, code));
        assert_eq!(got.json()["error"]["type"], kind);
        let header = got.headers.get("x-should-retry");
        assert_eq!(header.map(|it| it.to_str().unwrap()), retry);
    }
    assert_eq!(vendor.count(), 0);
    for (path, body, status, code) in [
        ("/llm/v1/chat/completions", json!({}), 400, "bad_request"),
        (
            "/llm/v1/embeddings",
            json!({"model": "m"}),
            400,
            "bad_request",
        ),
        ("/llm/v1/models", json!({}), 405, "method_not_allowed"),
        ("/llm/v1/assistants", json!({}), 404, "not_found"),
    ] {
        let got = call(&stack.app, path, &body).await;
        assert_eq!((got.status, got.code().as_str()), (status, code), "{path}");
    }
    let large = question(json!({"user": "x".repeat(1 << 20)}));
    let got = chat(&stack, &large).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (413, "payload_too_large")
    );
    assert!(stack.store.settled.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_vendors_refusal_of_the_request_is_the_callers() {
    for (kind, code, body, wanted) in [
        (
            "openai",
            400,
            json!({"error": {"message": "temperature: at most 2", "type": "invalid_request_error", "param": "temperature", "code": null}}),
            (400, "vendor_rejected"),
        ),
        (
            "openai",
            400,
            json!({"error": {"message": "too long", "code": "context_length_exceeded"}}),
            (400, "context_length_exceeded"),
        ),
        (
            "anthropic",
            400,
            json!({"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 3 > 2"}}),
            (400, "context_length_exceeded"),
        ),
        (
            "gemini",
            400,
            json!({"error": {"code": 400, "message": "bad", "status": "INVALID_ARGUMENT"}}),
            (400, "vendor_rejected"),
        ),
    ] {
        let vendor = Vendor::new(vec![status(code, "", &body)]).await;
        let other = Vendor::new(vec![sse(OPENAI)]).await;
        let stack = Stack::new(&[(kind, &vendor.url), ("openai", &other.url)]).await;
        let got = chat(&stack, &streamed()).await;
        assert_eq!((got.status, got.code().as_str()), wanted, "{kind}");
        let settled = stack.settled().await;
        assert_eq!(
            (&settled["prompt_tokens"], &settled["completion_tokens"]),
            (&json!(0), &json!(0))
        );
        assert_eq!(other.count(), 0);
    }
}

#[tokio::test]
async fn keys_and_prompts_are_in_no_log_and_no_answer() {
    let log = Capture::start();
    let echo = json!({"error": {"message": "Incorrect API key provided: sk-very-secret-0. Say hello", "code": "invalid_api_key"}});
    let vendor = Vendor::new(vec![status(401, "", &echo)]).await;
    let stack = Stack::new(&[("openai", &vendor.url)]).await;
    let got = chat(&stack, &question(json!({}))).await;
    assert_eq!((got.status, got.code().as_str()), (502, "vendor_auth"));
    assert_eq!(got.headers["x-should-retry"], "false");
    let text = format!("{}{}{}", log.text(), got.text, stack.settled().await);
    assert!(
        !text.contains("very-secret") && !text.contains("Say hello"),
        "{text}"
    );
}

#[tokio::test]
async fn the_development_model_repeats_the_question() {
    let stack = Stack::new(&[("echo", "http://localhost:1")]).await;
    let got = chat(&stack, &question(json!({}))).await;
    assert_eq!(got.json()["choices"][0]["message"]["content"], "Say hello");
    let stack = Stack::new(&[("echo", "http://localhost:1")]).await;
    assert_eq!(chat(&stack, &streamed()).await.content(), "Say hello");
    assert_eq!(stack.settled().await["completion_tokens"], 2);
}
