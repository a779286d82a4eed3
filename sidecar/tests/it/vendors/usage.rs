//! Tokens as vendors count them.

use kijko_sidecar::llm::{Usage, Vendor};
use serde_json::{Value, json};

use super::*;

#[tokio::test]
async fn a_server_without_usage_is_estimated_and_not_free() {
    let body = concat!(
        r#"data: {"choices":[{"delta":{"content":"12345678"},"finish_reason":"stop"}]}"#,
        "\n\n"
    );
    let (result, _) = ask(
        Vendor::OpenAi,
        &Fake::answering(format!("{STREAM}{body}")).await,
    )
    .await;
    let completion = result.unwrap();
    assert_eq!(
        (completion.usage, completion.model.as_str()),
        (Usage::new(3, 3), "gpt-4o")
    );
}

/// A stream of OpenAI's with one word of answer and these accounts of it.
fn accounts(usages: &[Value]) -> String {
    let events: String = usages
        .iter()
        .map(|usage| format!("data: {}\n\n", json!({"choices": [], "usage": usage})))
        .collect();
    let stop = json!({"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]});
    format!("{STREAM}data: {stop}\n\n{events}data: [DONE]\n\n")
}

#[tokio::test]
async fn thinking_outside_the_completion_is_output() {
    let details = |reasoning: u64| json!({"reasoning_tokens": reasoning});
    for (usage, output, reasoning) in [
        (
            json!({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 1_110, "completion_tokens_details": details(1_000)}),
            1_010,
            1_000,
        ),
        (
            json!({"prompt_tokens": 100, "completion_tokens": 10, "completion_tokens_details": details(1_000)}),
            1_010,
            1_000,
        ),
        (
            json!({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 1_110}),
            1_010,
            0,
        ),
        (
            json!({"prompt_tokens": 100, "completion_tokens": 1_010, "total_tokens": 1_110, "completion_tokens_details": details(1_000)}),
            1_010,
            1_000,
        ),
        (
            json!({"prompt_tokens": 100, "completion_tokens": 500, "total_tokens": 900, "completion_tokens_details": details(300)}),
            800,
            300,
        ),
        (
            json!({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 5}),
            10,
            0,
        ),
    ] {
        let (result, _) = ask(
            Vendor::OpenAi,
            &Fake::answering(accounts(std::slice::from_ref(&usage))).await,
        )
        .await;
        let counted = result.unwrap().usage;
        assert_eq!(
            (counted.input, counted.output, counted.reasoning),
            (100, output, reasoning),
            "{usage}"
        );
    }
}

#[tokio::test]
async fn a_later_smaller_count_does_not_lower_an_earlier_one() {
    let first = json!({"prompt_tokens": 90_000, "completion_tokens": 50, "prompt_tokens_details": {"cached_tokens": 70}});
    for later in [
        json!({"prompt_tokens": 0, "completion_tokens": 0}),
        json!({}),
        json!({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "prompt_tokens_details": {"cached_tokens": 0}}),
    ] {
        let fake = Fake::answering(accounts(&[first.clone(), later])).await;
        let usage = ask(Vendor::OpenAi, &fake).await.0.unwrap().usage;
        assert_eq!(
            (usage.input, usage.output, usage.cache_read),
            (90_000, 50, 70)
        );
    }
    let smaller = ends(Vendor::Anthropic).replace(
        r#""usage":{"output_tokens":12}"#,
        r#""usage":{"input_tokens":0,"cache_read_input_tokens":0,"cache_creation_input_tokens":0,"output_tokens":12}"#,
    );
    let fake = Fake::answering(format!("{STREAM}{}{smaller}", begins(Vendor::Anthropic))).await;
    assert_eq!(
        ask(Vendor::Anthropic, &fake).await.0.unwrap().usage,
        whole(Vendor::Anthropic)
    );
    let smaller = ends(Vendor::Gemini).to_owned()
        + "data: {\"usageMetadata\":{\"promptTokenCount\":1,\"thoughtsTokenCount\":3}}\r\n\r\n"
        + "data: {\"usageMetadata\":{\"candidatesTokenCount\":1}}\r\n\r\n";
    let fake = Fake::answering(format!("{STREAM}{}{smaller}", begins(Vendor::Gemini))).await;
    assert_eq!(
        ask(Vendor::Gemini, &fake).await.0.unwrap().usage,
        whole(Vendor::Gemini)
    );
}

#[tokio::test]
async fn the_reported_service_tier_is_known() {
    let message =
        answer(Vendor::OpenAi).replacen(r#""object""#, r#""service_tier":"priority","object""#, 1);
    let (_, progress) = ask(Vendor::OpenAi, &Fake::answering(message).await).await;
    assert_eq!(progress.state().service_tier.as_deref(), Some("priority"));
}
