//! What a vendor is asked.

use kijko_sidecar::llm::{Progress, Provider, Vendor};
use serde_json::json;

use super::*;
use crate::fakes::{ALL, KEY, client, request};

#[tokio::test]
async fn the_request_is_as_documented_and_other_parameters_are_dropped() {
    let given = json!({
        "temperature": 0.5, "max_tokens": 50, "stop": "END", "response_format": "json", "messages": [], "tools": [], "stream": false, "delay_ms": 5,
    });
    for vendor in ALL {
        let fake = Fake::answering(answer(vendor)).await;
        fake.client(vendor)
            .complete(request(vendor, &given, &Progress::default()))
            .await
            .unwrap();
        let (head, body) = fake.request();
        let (line, key, wanted) = match vendor {
            Vendor::OpenAi => (
                "POST /v1/chat/completions ",
                format!("authorization: Bearer {KEY}"),
                json!({
                    "model": "gpt-4o", "messages": [{"role": "user", "content": "Say hello"}], "stream": true,
                    "stream_options": {"include_usage": true}, "temperature": 0.5, "max_tokens": 50, "stop": "END",
                    "response_format": {"type": "json_object"},
                }),
            ),
            Vendor::Anthropic => (
                "POST /v1/messages ",
                format!("x-api-key: {KEY}"),
                json!({
                    "model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "Say hello"}], "stream": true,
                    "temperature": 0.5, "max_tokens": 50, "stop_sequences": ["END"],
                }),
            ),
            Vendor::Gemini => (
                "POST /v1/models/gemini-2.5-flash:streamGenerateContent?alt=sse ",
                format!("x-goog-api-key: {KEY}"),
                json!({
                    "contents": [{"role": "user", "parts": [{"text": "Say hello"}]}],
                    "generationConfig": {"temperature": 0.5, "maxOutputTokens": 50, "stopSequences": ["END"], "responseMimeType": "application/json"},
                }),
            ),
        };
        assert!(head.starts_with(line) && head.contains(&key), "{head}");
        assert_eq!(
            head.contains("anthropic-version: 2023-06-01"),
            vendor == Vendor::Anthropic
        );
        assert!(
            !head.contains("accept-encoding"),
            "a compressed answer has no bound: {head}"
        );
        assert_eq!(body, wanted, "{vendor:?}");
    }
}

#[tokio::test]
async fn a_models_name_is_sent_as_it_is() {
    let fake = Fake::answering(answer(Vendor::OpenAi)).await;
    let asked = |model: &str| kijko_sidecar::llm::CompletionRequest {
        model: model.into(),
        ..request(Vendor::OpenAi, &json!({}), &Progress::default())
    };
    fake.client(Vendor::OpenAi)
        .complete(asked("qwen/qwen3-high"))
        .await
        .unwrap();
    let (_, body) = fake.request();
    assert_eq!(
        (&body["model"], body.get("reasoning_effort")),
        (&json!("qwen/qwen3-high"), None)
    );
    // Gemini's is part of the address: it must not lead elsewhere with our key.
    for name in ["../files", "a/b", "a:b"] {
        let error = client(Vendor::Gemini, &fake.base_url)
            .complete(asked(name))
            .await
            .unwrap_err();
        assert_eq!(error.code(), "model_not_available", "{name}");
    }
    assert_eq!(fake.requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_reasoning_model_gets_its_own_parameter_for_the_limit() {
    let fake = Fake::answering(answer(Vendor::OpenAi)).await;
    let mut asked = request(
        Vendor::OpenAi,
        &json!({"max_tokens": 9, "reasoning_effort": "low"}),
        &Progress::default(),
    );
    asked.model = "gpt-5-mini".into();
    fake.client(Vendor::OpenAi).complete(asked).await.unwrap();
    let (_, body) = fake.request();
    assert_eq!(
        (&body["max_completion_tokens"], &body["reasoning_effort"]),
        (&json!(9), &json!("low"))
    );
}

#[tokio::test]
async fn a_limit_of_the_answer_is_always_sent() {
    for (vendor, path) in [
        (Vendor::OpenAi, "/max_tokens"),
        (Vendor::Anthropic, "/max_tokens"),
        (Vendor::Gemini, "/generationConfig/maxOutputTokens"),
    ] {
        for (given, wanted) in [
            (json!({}), 8_192),
            (json!({"max_tokens": 50}), 50),
            (json!({"max_tokens": 50.0}), 50),
        ] {
            let fake = Fake::answering(answer(vendor)).await;
            let asked = request(vendor, &given, &Progress::default());
            let most = fake.client(vendor).max_usage(&asked);
            assert_eq!(most.output, wanted);
            assert!(most.input >= 3);
            fake.client(vendor).complete(asked).await.unwrap();
            assert_eq!(
                fake.request().1.pointer(path),
                Some(&json!(wanted)),
                "{vendor:?} {given}"
            );
        }
    }
    let fake = Fake::answering(answer(Vendor::OpenAi)).await;
    let given = json!({"max_tokens": 5, "max_completion_tokens": 70});
    let asked = request(Vendor::OpenAi, &given, &Progress::default());
    fake.client(Vendor::OpenAi).complete(asked).await.unwrap();
    let body = fake.request().1;
    assert_eq!(
        (&body["max_completion_tokens"], body.get("max_tokens")),
        (&json!(70), None)
    );
}
