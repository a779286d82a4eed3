//! Streams: what the client gets of each vendor's, and what breaks.

use futures_util::StreamExt;

use super::{
    vendor::{Vendor, broken, ok, sse},
    *,
};

#[tokio::test]
async fn a_stream_of_every_vendor_has_openais_shape() {
    for (kind, body, model) in VENDORS {
        let vendor = Vendor::new(vec![sse(body)]).await;
        let stack = Stack::new(&[(kind, &vendor.url)]).await;
        let got = chat(&stack, &streamed()).await;
        assert_eq!(got.status, 200, "{kind}: {}", got.text);
        assert_eq!(
            got.headers["content-type"],
            "text/event-stream; charset=utf-8"
        );
        assert_eq!(got.content(), "Hello", "{kind}");
        let mut events = got.events();
        assert_eq!(events.pop().unwrap(), "[DONE]");
        assert!(!got.text.contains("\"usage\""), "{kind}: {}", got.text);
        assert_eq!(got.text.matches("[DONE]").count(), 1);
        let id = events[0]["id"].as_str().unwrap().to_owned();
        assert!(id.starts_with("chatcmpl-"));
        for event in &events {
            assert_eq!(event["object"], "chat.completion.chunk");
            assert_eq!((&event["id"], &event["model"]), (&json!(id), &json!(model)));
        }
        assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
        let last = &events.last().unwrap()["choices"][0];
        assert_eq!(
            (&last["finish_reason"], &last["delta"]),
            (&json!("stop"), &json!({}))
        );
        let settled = stack.settled().await;
        for (name, value) in [
            ("status", json!("succeeded")),
            ("prompt_tokens", json!(11)),
            ("completion_tokens", json!(5)),
            ("cached_tokens", json!(4)),
            ("estimated", json!(false)),
            ("model", json!(model)),
            ("finish_reason", json!("stop")),
            ("attempts", json!(1)),
            ("http_status", json!(200)),
        ] {
            assert_eq!(settled[name], value, "{kind} {name}");
        }
        assert!(settled["first_token_ms"].is_u64() && settled.get("prompt").is_none());
        let (head, body) = vendor.request(0);
        assert!(head.contains("sk-very-secret-0"), "{head}");
        assert!(
            !head.to_lowercase().contains("bearer very-secret"),
            "{head}"
        );
        if kind != "gemini" {
            assert_eq!(
                (&body["model"], &body["stream"]),
                (&json!("the-model"), &json!(true))
            );
        }
    }
}

#[tokio::test]
async fn usage_comes_once_for_who_asked() {
    for (kind, body, _) in VENDORS {
        let vendor = Vendor::new(vec![sse(body)]).await;
        let stack = Stack::new(&[(kind, &vendor.url)]).await;
        let asked = question(json!({"stream": true, "stream_options": {"include_usage": true}}));
        let mut events = chat(&stack, &asked).await.events();
        events.pop();
        let last = events.pop().unwrap();
        assert_eq!(last["choices"], json!([]));
        let usage = &last["usage"];
        assert_eq!(
            (&usage["prompt_tokens"], &usage["completion_tokens"]),
            (&json!(11), &json!(5))
        );
        assert_eq!(usage["total_tokens"], 16);
        assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 4);
        let others = events.iter().all(|event| event["usage"].is_null());
        assert!(
            others && events.iter().all(|it| it.get("usage").is_some()),
            "{kind}"
        );
    }
}

#[tokio::test]
async fn parallel_calls_of_tools_keep_their_indices() {
    let body = concat!(
        "data: {\"type\":\"message_start\",\"message\":{\"model\":\"claude\",\"usage\":{\"input_tokens\":5}}}\n\n",
        "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"f\",\"input\":{}}}\n\n",
        "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"a\\\":1}\"}}\n\n",
        "data: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
        "data: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"toolu_2\",\"name\":\"g\",\"input\":{}}}\n\n",
        "data: {\"type\":\"content_block_stop\",\"index\":1}\n\n",
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":9}}\n\n",
        "data: {\"type\":\"message_stop\"}\n\n",
    );
    let vendor = Vendor::new(vec![sse(body)]).await;
    let stack = Stack::new(&[("anthropic", &vendor.url)]).await;
    let events = chat(&stack, &streamed()).await.events();
    let calls = events
        .iter()
        .filter_map(|event| event.pointer("/choices/0/delta/tool_calls/0"));
    let calls: Vec<_> = calls.collect();
    let named: Vec<_> = calls
        .iter()
        .filter(|call| call.get("id").is_some())
        .collect();
    assert_eq!(
        (named[0]["index"].as_u64(), named[1]["index"].as_u64()),
        (Some(0), Some(1))
    );
    assert_eq!(named.len(), 2);
    let ends = events[events.len() - 2].pointer("/choices/0/finish_reason");
    assert_eq!(ends, Some(&json!("tool_calls")));
}

#[tokio::test]
async fn refusals_filters_and_cut_answers_end_with_their_reason() {
    let gemini = |reason: &str| {
        format!(
            "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"a\"}}]}},\"finishReason\":\"{reason}\"}}]}}\n\n"
        )
    };
    for (kind, body, reason) in [
        ("openai", OPENAI.replace("\"stop\"", "\"length\""), "length"),
        ("openai", OPENAI.replace("\"stop\"", "\"content_filter\""), "content_filter"),
        ("anthropic", ANTHROPIC.replace("end_turn", "max_tokens"), "length"),
        ("anthropic", ANTHROPIC.replace("end_turn", "refusal"), "content_filter"),
        ("gemini", gemini("MAX_TOKENS"), "length"),
        ("gemini", gemini("SAFETY"), "content_filter"),
        (
            "gemini",
            "data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"},\"usageMetadata\":{\"promptTokenCount\":3}}\n\n".to_owned(),
            "content_filter",
        ),
    ] {
        let vendor = Vendor::new(vec![sse(&body)]).await;
        let stack = Stack::new(&[(kind, &vendor.url)]).await;
        let got = chat(&stack, &streamed()).await;
        let events = got.events();
        let last = &events[events.len() - 2]["choices"][0];
        assert_eq!(last["finish_reason"], reason, "{kind}: {}", got.text);
        assert_eq!(stack.settled().await["finish_reason"], reason);
    }
}

/// How an answer breaks after its first pieces, and with which code.
#[tokio::test]
async fn a_stream_that_fails_ends_with_one_error_and_no_done() {
    let openai = OPENAI.split_once("data: {\"id\":\"chatcmpl-9\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o-2024-08-06\",\"choices\":[{\"index\":0,\"delta\":{},").unwrap().0;
    let anthropic = ANTHROPIC.split_once("event: content_block_stop").unwrap().0;
    let event = |error: &str| {
        format!(
            "{anthropic}event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"{error}\",\"message\":\"m\"}}}}\n\n"
        )
    };
    for (kind, steps, code) in [
        ("openai", sse(openai), "vendor_truncated"),
        ("openai", broken(openai), "vendor_truncated"),
        (
            "openai",
            sse(&format!("{openai}data: [DONE]\n\n")),
            "vendor_truncated",
        ),
        (
            "openai",
            sse(&format!("{openai}data: nonsense\n\n")),
            "vendor_malformed",
        ),
        (
            "openai",
            sse(&format!(
                "{openai}data: {{\"error\":{{\"message\":\"m\",\"code\":500}}}}\n\n"
            )),
            "vendor_unavailable",
        ),
        ("anthropic", sse(anthropic), "vendor_truncated"),
        (
            "anthropic",
            sse(&event("overloaded_error")),
            "vendor_overloaded",
        ),
        (
            "gemini",
            sse(
                "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hello\"}]}}]}\n\ndata: {\"candidates\":[{\"finishReason\":\"MALFORMED_FUNCTION_CALL\"}]}\n\n",
            ),
            "model_stopped",
        ),
    ] {
        let vendor = Vendor::new(vec![steps]).await;
        let other = Vendor::new(vec![sse(OPENAI)]).await;
        let stack = Stack::new(&[(kind, &vendor.url), ("openai", &other.url)]).await;
        let got = chat(&stack, &streamed()).await;
        assert_eq!(
            (got.status, got.content().as_str()),
            (200, "Hello"),
            "{kind} {code}: {}",
            got.text
        );
        let events = got.events();
        assert_eq!(
            events.last().unwrap()["error"]["code"],
            code,
            "{kind}: {}",
            got.text
        );
        assert!(!got.text.contains("[DONE]"));
        assert_eq!(other.count(), 0, "no other vendor after the first piece");
        let settled = stack.settled().await;
        assert_eq!(
            (&settled["status"], &settled["error_code"]),
            (&json!("failed"), &json!(code))
        );
        assert_eq!(settled["estimated"], true, "{kind} {code}: {settled}");
        let (prompt, completion) = (
            settled["prompt_tokens"].as_u64(),
            settled["completion_tokens"].as_u64(),
        );
        assert!(prompt >= Some(11) && completion >= Some(3), "{settled}");
    }
}

#[tokio::test]
async fn who_hangs_up_cuts_the_vendor_and_pays_for_what_came() {
    let start = OPENAI.split_once("data: {\"id\":\"chatcmpl-9\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o-2024-08-06\",\"choices\":[{\"index\":0,\"delta\":{},").unwrap().0;
    let vendor = Vendor::new(vec![vec![ok("text/event-stream", start), Step::Hang]]).await;
    let stack = Stack::new(&[("openai", &vendor.url)]).await;
    let request = post("/llm/v1/chat/completions").body(Body::from(streamed().to_string()));
    let response = stack.app.clone().oneshot(request.unwrap()).await.unwrap();
    let mut parts = response.into_body().into_data_stream();
    assert!(parts.next().await.unwrap().is_ok());
    drop(parts);
    let settled = stack.settled().await;
    assert_eq!(settled["status"], "cancelled");
    assert_eq!(
        (&settled["estimated"], &settled["prompt_tokens"]),
        (&json!(true), &json!(40))
    );
    assert_eq!(settled["completion_tokens"], 3);
    for _ in 0..200 {
        if *vendor.hung_up.lock().unwrap() == 1 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the vendor was not cut");
}

#[tokio::test]
async fn a_stopping_process_cuts_and_settles() {
    let start = OPENAI.split_once("data: {\"id\":\"chatcmpl-9\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o-2024-08-06\",\"choices\":[{\"index\":0,\"delta\":{},").unwrap().0;
    let vendor = Vendor::new(vec![vec![ok("text/event-stream", start), Step::Hang]]).await;
    let stack = Stack::new(&[("openai", &vendor.url)]).await;
    let stop = async {
        while vendor.count() == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        stack.stop().cancel();
    };
    let body = streamed();
    let (got, ()) = tokio::join!(chat(&stack, &body), stop);
    assert_eq!(got.events().last().unwrap()["error"]["code"], "unavailable");
    let settled = stack.settled().await;
    assert_eq!(
        (&settled["status"], &settled["error_code"]),
        (&json!("cancelled"), &json!("shutdown"))
    );
}

#[tokio::test]
async fn a_settlement_waits_for_the_database() {
    let vendor = Vendor::new(vec![sse(OPENAI)]).await;
    let stack = Stack::new(&[("openai", &vendor.url)]).await;
    *stack.store.failures.lock().unwrap() = 3;
    let got = chat(&stack, &streamed()).await;
    assert_eq!(got.events().last().unwrap(), "[DONE]");
    assert_eq!(stack.settled().await["prompt_tokens"], 11);
    assert_eq!(stack.store.settled.lock().unwrap().len(), 1);
}

/// A stack whose only target is on the platform's key.
async fn platforms(kind: &str, model: &str, vendor: &Vendor, more: Value) -> Stack {
    let stack = Stack::with(&[(kind, &vendor.url)], more).await;
    {
        let mut opened = stack.store.opened.lock().unwrap();
        let target = &mut opened.as_mut().unwrap().targets[0];
        target.own_key = false;
        target.model = model.to_owned();
    }
    stack
}

/// The body of the answer of a stack, to read as far as wanted.
async fn begun(stack: &Stack) -> axum::body::BodyDataStream {
    let request = post("/llm/v1/chat/completions").body(Body::from(streamed().to_string()));
    let response = stack.app.clone().oneshot(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    response.into_body().into_data_stream()
}

#[tokio::test]
async fn thoughts_that_nobody_sees_are_paid_when_the_client_hangs_up() {
    let start = OPENAI.split_once("data: {\"id\":\"chatcmpl-9\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o-2024-08-06\",\"choices\":[{\"index\":0,\"delta\":{},").unwrap().0;
    for (model, hides) in [("o3", true), ("gpt-5-mini", true), ("gpt-4o", false)] {
        let vendor = Vendor::new(vec![vec![ok("text/event-stream", start), Step::Hang]]).await;
        let stack = platforms("openai", model, &vendor, json!({})).await;
        let mut parts = begun(&stack).await;
        assert!(parts.next().await.unwrap().is_ok());
        drop(parts);
        let settled = stack.settled().await;
        assert_eq!(settled["status"], "cancelled");
        assert_eq!(settled["estimated"], true);
        let unknown = settled.get("completion_tokens").is_none();
        assert_eq!(unknown, hides, "{model}: {settled}");
    }
}

#[tokio::test]
async fn the_count_of_a_whole_answer_is_waited_for_when_the_client_has_gone() {
    let (said, count) = OPENAI.split_once("data: {\"id\":\"chatcmpl-9\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o-2024-08-06\",\"choices\":[],").unwrap();
    let count = format!("data: {{\"choices\":[],{count}");
    let steps = vec![
        ok("text/event-stream", said),
        Step::Wait(std::time::Duration::from_millis(500)),
        Step::Send(count),
    ];
    let vendor = Vendor::new(vec![steps]).await;
    let stack = platforms("openai", "o3", &vendor, json!({})).await;
    let mut parts = begun(&stack).await;
    while let Some(part) = parts.next().await {
        if String::from_utf8_lossy(&part.unwrap()).contains("\"stop\"") {
            break;
        }
    }
    drop(parts);
    let settled = stack.settled().await;
    assert_eq!(
        (&settled["completion_tokens"], &settled["estimated"]),
        (&json!(5), &json!(false)),
        "{settled}"
    );
}

#[tokio::test]
async fn a_client_that_does_not_read_is_given_up() {
    let piece = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"},\"finish_reason\":null}]}\n\n";
    let vendor = Vendor::new(vec![vec![
        ok("text/event-stream", &piece.repeat(200)),
        Step::Hang,
    ]])
    .await;
    let stack = Stack::with(&[("openai", &vendor.url)], json!({"idle_seconds": 1})).await;
    let parts = begun(&stack).await;
    let settled = stack.settled().await;
    assert_eq!(
        (&settled["status"], &settled["error_code"]),
        (&json!("cancelled"), &json!("client_closed_request"))
    );
    for _ in 0..200 {
        if *vendor.hung_up.lock().unwrap() == 1 && stack.gateway.tasks.is_empty() {
            drop(parts);
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the call goes on");
}

#[tokio::test]
async fn a_call_is_settled_without_a_content_that_cannot_be_stored() {
    let odd = OPENAI.replace("gpt-4o-2024-08-06", "gpt\\u0000");
    let vendor = Vendor::new(vec![sse(&odd)]).await;
    let stack = Stack::with(&[("openai", &vendor.url)], json!({"record_content": true})).await;
    *stack.store.refuses_content.lock().unwrap() = true;
    assert_eq!(chat(&stack, &streamed()).await.content(), "Hello");
    let settled = stack.settled().await;
    assert_eq!(settled["prompt_tokens"], 11);
    assert_eq!(settled["model"], "gpt\u{fffd}");
    assert!(settled.get("prompt").is_none() && settled.get("answer").is_none());
}
