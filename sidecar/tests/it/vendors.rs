//! Each vendor on the wire: what is asked, what comes of every kind of answer, and what is known to have been used.

use std::{
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use kijko_sidecar::llm::{LlmError, LlmFault, Progress, Provider, Usage, Vendor};
use serde_json::{Value, json};

use crate::{
    fakes::{
        ALL, Fake, KEY, STREAM, Step, ask, begins, chunked, client, ends, http, model, refuses,
        request,
    },
    support::eventually,
};

macro_rules! bytes {
    ($($format:tt)*) => { format!($($format)*).into_bytes() };
}

fn answer(vendor: Vendor) -> String {
    format!("{STREAM}{}{}", begins(vendor), ends(vendor))
}

async fn failure(vendor: Vendor, answer: String) -> LlmError {
    let (result, _) = ask(vendor, &Fake::answering(answer).await).await;
    result.unwrap_err()
}

/// What the vendor counts in `begins` and `ends`, in our terms.
fn whole(vendor: Vendor) -> Usage {
    let usage = Usage {
        input: 100,
        output: 12,
        cache_read: 60,
        ..Usage::default()
    };
    match vendor {
        Vendor::Anthropic => Usage {
            cache_write: 30,
            cache_write_1h: 20,
            ..usage
        },
        _ => Usage {
            reasoning: 10,
            ..usage
        },
    }
}

#[tokio::test]
async fn a_streamed_answer() {
    for vendor in ALL {
        let (result, progress) = ask(vendor, &Fake::answering(answer(vendor)).await).await;
        let completion = result.unwrap();
        assert_eq!(completion.text, "Hello!", "{vendor:?}");
        assert_eq!(completion.finish_reason.as_deref(), Some("stop"));
        assert_eq!(completion.usage, whole(vendor), "{vendor:?}");
        let dated = [
            "gpt-4o-2024-08-06",
            "claude-sonnet-4-5-20250929",
            "gemini-2.5-flash-001",
        ];
        assert!(
            dated.contains(&completion.model.as_str()),
            "{}",
            completion.model
        );
        assert!(progress.reached().first_token.is_some());
    }
}

#[tokio::test]
async fn an_answer_in_small_pieces_is_the_same() {
    for vendor in ALL {
        let mut steps = vec![Step::Send(STREAM.into())];
        let body = format!("{}{}", begins(vendor), ends(vendor)).replace("lo!", "l\u{f6}!");
        // Characters are cut in two as well.
        for piece in body.as_bytes().chunks(3) {
            steps.push(Step::Send(piece.to_vec()));
            steps.push(Step::Wait(Duration::from_micros(100)));
        }
        let (result, _) = ask(vendor, &Fake::new(steps).await).await;
        assert_eq!(result.unwrap().text, "Hell\u{f6}!", "{vendor:?}");
    }
}

#[tokio::test]
async fn the_request_is_what_the_vendor_documents_and_nothing_else_is_passed_on() {
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
async fn a_name_is_the_vendors_own_and_is_not_taken_apart() {
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
async fn a_model_with_thinking_gets_its_own_word_for_the_limit() {
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
async fn a_server_without_a_key_and_without_usage_is_estimated_and_not_free() {
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

#[tokio::test]
async fn a_refusal_is_final_and_its_tokens_are_known() {
    for vendor in ALL {
        let (result, progress) = ask(
            vendor,
            &Fake::answering(format!("{STREAM}{}", refuses(vendor))).await,
        )
        .await;
        let error = result.unwrap_err();
        assert_eq!(
            (error.code(), error.retryable()),
            ("model_refused", false),
            "{vendor:?}"
        );
        assert_eq!(progress.reached().usage, Usage::new(100, 5), "{vendor:?}");
    }
    let said = failure(
        Vendor::OpenAi,
        format!("{STREAM}{}", refuses(Vendor::OpenAi)),
    )
    .await;
    assert!(said.message.contains("I cannot help."), "{said}");
    // Gemini blocks a prompt without any candidate; OpenAI's filter stops in mid-sentence.
    let blocked = concat!(
        r#"data: {"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":100,"totalTokenCount":100}}"#,
        "\r\n\r\n"
    );
    let (result, progress) = ask(
        Vendor::Gemini,
        &Fake::answering(format!("{STREAM}{blocked}")).await,
    )
    .await;
    assert_eq!(result.unwrap_err().code(), "model_refused");
    assert_eq!(progress.reached().usage, Usage::new(100, 0));
    let filtered = concat!(
        r#"data: {"choices":[{"delta":{},"finish_reason":"content_filter"}]}"#,
        "\n\n",
        "data: [DONE]\n\n"
    );
    assert_eq!(
        failure(
            Vendor::OpenAi,
            format!("{STREAM}{}{filtered}", begins(Vendor::OpenAi))
        )
        .await
        .code(),
        "model_refused"
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
async fn no_later_message_takes_back_what_an_earlier_one_told() {
    let told = json!({"prompt_tokens": 90_000, "completion_tokens": 50, "prompt_tokens_details": {"cached_tokens": 70}});
    for later in [
        json!({"prompt_tokens": 0, "completion_tokens": 0}),
        json!({}),
        json!({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "prompt_tokens_details": {"cached_tokens": 0}}),
    ] {
        let fake = Fake::answering(accounts(&[told.clone(), later])).await;
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
async fn only_an_answer_is_a_success() {
    let (openai, anthropic, gemini) = (Vendor::OpenAi, Vendor::Anthropic, Vendor::Gemini);
    for (vendor, word, reason, code) in [
        (
            anthropic,
            r#""end_turn""#,
            r#""pause_turn""#,
            "model_stopped",
        ),
        (anthropic, r#""end_turn""#, r#""tool_use""#, "model_stopped"),
        (gemini, r#""STOP""#, r#""OTHER""#, "model_stopped"),
        (gemini, r#""STOP""#, r#""LANGUAGE""#, "model_stopped"),
        (
            gemini,
            r#""STOP""#,
            r#""MALFORMED_FUNCTION_CALL""#,
            "model_stopped",
        ),
        (
            gemini,
            r#""STOP""#,
            r#""FINISH_REASON_UNSPECIFIED""#,
            "model_stopped",
        ),
        (openai, r#""stop""#, r#""tool_calls""#, "model_stopped"),
        (
            openai,
            r#""stop""#,
            r#""insufficient_system_resource""#,
            "model_stopped",
        ),
    ] {
        let (result, progress) = ask(
            vendor,
            &Fake::answering(answer(vendor).replace(word, reason)).await,
        )
        .await;
        let error = result.unwrap_err();
        assert_eq!((error.code(), error.retryable()), (code, false), "{reason}");
        assert_eq!(progress.reached().usage, whole(vendor), "{reason}");
    }
    for vendor in ALL {
        let silent = answer(vendor).replace("Hel", "").replace("lo!", " ");
        let error = failure(vendor, silent.clone()).await;
        assert_eq!(
            (error.code(), error.retryable()),
            ("output_empty", true),
            "{vendor:?}"
        );
        let cut = [r#""stop""#, r#""end_turn""#, r#""STOP""#]
            .iter()
            .zip([r#""length""#, r#""max_tokens""#, r#""MAX_TOKENS""#])
            .fold(silent, |text, (word, cut)| text.replace(*word, cut));
        let error = failure(vendor, cut).await;
        assert_eq!(
            (error.code(), error.retryable()),
            ("output_truncated", false),
            "{vendor:?}"
        );
    }
}

#[tokio::test]
async fn the_longest_answer_is_always_sent() {
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

#[tokio::test]
async fn the_tier_that_the_vendor_tells_is_known() {
    let told =
        answer(Vendor::OpenAi).replacen(r#""object""#, r#""service_tier":"priority","object""#, 1);
    let (_, progress) = ask(Vendor::OpenAi, &Fake::answering(told).await).await;
    assert_eq!(progress.reached().service_tier.as_deref(), Some("priority"));
}

#[tokio::test]
async fn no_refusal_tells_the_operators_account() {
    let words = "Project `proj_AbCdEf0123456789` of organization org-Zx98Yw76Vu54 may not use it; \
                 key sk-svcacct-1234567890abcdef, Bearer abcdefgh12345678, https://u:p4ssw0rd@h/v1, account 123456789012";
    let secrets = [
        "AbCdEf",
        "Zx98",
        "svcacct-1",
        "abcdefgh1",
        "p4ssw0rd",
        "123456789012",
    ];
    for vendor in ALL {
        for (status, event) in [
            ("400 Bad Request", false),
            ("404 Not Found", false),
            ("200", true),
        ] {
            let body = json!({"type": "error", "error": {"message": words, "type": "invalid_request_error", "code": null}}).to_string();
            let told = if event {
                format!("{STREAM}{}event: error\ndata: {body}\n\n", begins(vendor))
            } else {
                http(status, "", &body)
            };
            let error = failure(vendor, told).await;
            for secret in secrets {
                assert!(
                    !error.message.contains(secret),
                    "{vendor:?} {status}: {error}"
                );
            }
            if !event {
                assert!(error.message.contains("may not use it"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_cut_at_the_token_limit_says_length() {
    for (vendor, word, cut) in [
        (Vendor::OpenAi, r#""stop""#, r#""length""#),
        (Vendor::Anthropic, r#""end_turn""#, r#""max_tokens""#),
        (Vendor::Gemini, r#""STOP""#, r#""MAX_TOKENS""#),
    ] {
        let (result, _) = ask(
            vendor,
            &Fake::answering(answer(vendor).replace(word, cut)).await,
        )
        .await;
        assert_eq!(
            result.unwrap().finish_reason.as_deref(),
            Some("length"),
            "{vendor:?}"
        );
    }
}

const fn rate_limit(vendor: Vendor) -> &'static str {
    match vendor {
        Vendor::OpenAi => {
            r#"{"error":{"message":"Rate limit reached for gpt-4o","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#
        }
        Vendor::Anthropic => {
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your organization's rate limit"},"request_id":"req_1"}"#
        }
        Vendor::Gemini => {
            r#"{"error":{"code":429,"message":"You exceeded your current quota","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"17s"}]}}"#
        }
    }
}

#[tokio::test]
async fn too_many_requests_is_retried_when_the_vendor_wants_it() {
    for vendor in ALL {
        let body = rate_limit(vendor);
        let wish = async |headers: &str| {
            let error = failure(vendor, http("429 Too Many Requests", headers, body)).await;
            assert_eq!(
                (error.code(), error.retryable()),
                ("vendor_rate_limited", true),
                "{vendor:?}"
            );
            error.retry_after
        };
        assert_eq!(
            wish("retry-after: 9\r\n").await,
            Some(Duration::from_secs(9))
        );
        assert_eq!(
            wish("retry-after-ms: 1500\r\nretry-after: 9\r\n").await,
            Some(Duration::from_millis(1_500))
        );
        assert_eq!(
            wish("retry-after: Fri, 31 Dec 2100 23:59:59 GMT\r\n").await,
            Some(Duration::from_secs(3_600))
        );
        let in_the_body = (vendor == Vendor::Gemini).then_some(Duration::from_secs(17));
        assert_eq!(wish("retry-after: soon\r\n").await, in_the_body);
    }
}

#[tokio::test]
async fn vendors_in_trouble_are_asked_again() {
    for vendor in ALL {
        for status in [
            "500 Internal Server Error",
            "502 Bad Gateway",
            "503 Service Unavailable",
        ] {
            let error = failure(
                vendor,
                http(status, "retry-after: 3\r\n", "<html>oops</html>"),
            )
            .await;
            assert_eq!(
                (error.code(), error.retryable()),
                ("vendor_unavailable", true),
                "{vendor:?} {status}"
            );
            assert_eq!(error.retry_after, Some(Duration::from_secs(3)));
        }
    }
    let body = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let error = failure(Vendor::Anthropic, http("529 Overloaded", "", body)).await;
    assert_eq!(
        (error.code(), error.retryable()),
        ("vendor_overloaded", true)
    );
}

#[tokio::test]
async fn an_error_in_the_middle_of_a_stream_has_its_own_code_and_its_tokens_are_known() {
    for (vendor, event, code) in [
        (
            Vendor::OpenAi,
            concat!(
                r#"data: {"error":{"message":"The server had an error","type":"server_error","code":null}}"#,
                "\n\n"
            ),
            "vendor_unavailable",
        ),
        (
            Vendor::Anthropic,
            concat!(
                "event: error\n",
                r#"data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                "\n\n"
            ),
            "vendor_overloaded",
        ),
        (
            Vendor::Gemini,
            concat!(
                r#"data: {"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#,
                "\r\n\r\n"
            ),
            "vendor_unavailable",
        ),
    ] {
        let (result, progress) = ask(
            vendor,
            &Fake::answering(format!("{STREAM}{}{event}", begins(vendor))).await,
        )
        .await;
        let error = result.unwrap_err();
        assert_eq!(
            (error.code(), error.retryable()),
            (code, true),
            "{vendor:?}"
        );
        if vendor != Vendor::OpenAi {
            assert_eq!(progress.reached().usage.input, 100, "{vendor:?}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_no_answer() {
    for vendor in ALL {
        let mut half = ends(vendor).to_owned();
        half.truncate(40);
        for broken in [
            format!("{STREAM}{}", begins(vendor)),
            format!("{STREAM}{}{half}", begins(vendor)),
            chunked(begins(vendor), false),
            chunked(begins(vendor), true),
        ] {
            let (result, progress) = ask(vendor, &Fake::answering(broken).await).await;
            let error = result.unwrap_err();
            assert_eq!(
                (error.code(), error.retryable()),
                ("vendor_truncated", true),
                "{vendor:?} {error}"
            );
            assert_eq!(
                progress.reached().usage.input,
                if vendor == Vendor::OpenAi { 0 } else { 100 }
            );
        }
    }
}

#[tokio::test]
async fn what_is_not_the_protocol_is_malformed() {
    for vendor in ALL {
        let event = if vendor == Vendor::Anthropic {
            "event: content_block_delta\n"
        } else {
            ""
        };
        for body in [
            String::new(),
            "<html>hello</html>".to_owned(),
            r#"{"choices":[]}"#.to_owned(),
            format!("{}{event}data: {{\"a\": nonsense}}\n\n", begins(vendor)),
        ] {
            let error = failure(vendor, format!("{STREAM}{body}")).await;
            assert_eq!(
                (error.code(), error.retryable()),
                ("vendor_malformed", true),
                "{vendor:?} {body}"
            );
        }
    }
}

#[tokio::test]
async fn a_vendor_that_falls_silent_is_given_up() {
    for vendor in ALL {
        let fake = Fake::new(vec![
            Step::Send(bytes!("{STREAM}{}", begins(vendor))),
            Step::Wait(Duration::from_secs(60)),
        ])
        .await;
        let start = Instant::now();
        let (result, _) = ask(vendor, &fake).await;
        let error = result.unwrap_err();
        assert_eq!(
            (error.code(), error.retryable()),
            ("vendor_timeout", true),
            "{vendor:?}"
        );
        assert!(
            start.elapsed() < Duration::from_secs(3),
            "long before the limit of the whole call"
        );
    }
}

#[tokio::test]
async fn an_answer_that_only_drips_ends_with_the_whole_calls_time() {
    let mut steps = vec![Step::Send(STREAM.into())];
    for _ in 0..100 {
        steps.push(Step::Send(": keep-alive\n\n".into()));
        steps.push(Step::Wait(Duration::from_millis(100)));
    }
    let start = Instant::now();
    let (result, _) = ask(Vendor::OpenAi, &Fake::new(steps).await).await;
    assert_eq!(result.unwrap_err().code(), "vendor_timeout");
    assert!(start.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn a_dropped_call_hangs_up_at_once() {
    for vendor in ALL {
        let fake = Fake::new(vec![
            Step::Send(bytes!("{STREAM}{}", begins(vendor))),
            Step::Wait(Duration::from_secs(60)),
        ])
        .await;
        let (client, progress) = (Arc::new(fake.client(vendor)), Progress::default());
        let call = tokio::spawn({
            let (client, request) = (client.clone(), request(vendor, &json!({}), &progress));
            async move { client.complete(request).await }
        });
        eventually("the answer begins", || {
            progress.reached().first_token.is_some()
        })
        .await;
        call.abort();
        eventually("the vendor is told", || *fake.hung_up.lock().unwrap() == 1).await;
    }
}

#[tokio::test]
async fn a_wrong_key_is_final_and_is_not_quoted() {
    for (vendor, status, body) in [
        (
            Vendor::OpenAi,
            "401 Unauthorized",
            format!(
                r#"{{"error":{{"message":"Incorrect API key provided: {KEY}","type":"invalid_request_error","code":"invalid_api_key"}}}}"#
            ),
        ),
        (
            Vendor::Anthropic,
            "401 Unauthorized",
            format!(
                r#"{{"type":"error","error":{{"type":"authentication_error","message":"invalid x-api-key {KEY}"}}}}"#
            ),
        ),
        (
            Vendor::Gemini,
            "400 Bad Request",
            format!(
                r#"{{"error":{{"code":400,"message":"API key not valid: {KEY}","status":"INVALID_ARGUMENT","details":[{{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}}]}}}}"#
            ),
        ),
    ] {
        let error = failure(vendor, http(status, "", &body)).await;
        assert_eq!(
            (error.code(), error.retryable()),
            ("vendor_auth", false),
            "{vendor:?}"
        );
        assert!(
            !format!("{error:?}").contains(KEY)
                && !format!("{:?}", client(vendor, "http://h")).contains(KEY)
        );
    }
}

#[tokio::test]
async fn an_account_that_is_used_up_is_final() {
    for (vendor, status, body) in [
        (
            Vendor::OpenAi,
            "429 Too Many Requests",
            r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#,
        ),
        (
            Vendor::Anthropic,
            "400 Bad Request",
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#,
        ),
    ] {
        let error = failure(vendor, http(status, "", body)).await;
        assert_eq!(
            (error.code(), error.retryable()),
            ("vendor_quota_exhausted", false),
            "{vendor:?}"
        );
    }
}

#[tokio::test]
async fn a_prompt_that_is_too_long_is_final_and_named() {
    for (vendor, body) in [
        (
            Vendor::OpenAi,
            r#"{"error":{"message":"This model's maximum context length is 128000 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
        ),
        (
            Vendor::Anthropic,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#,
        ),
        (
            Vendor::Gemini,
            r#"{"error":{"code":400,"message":"The input token count (1200000) exceeds the maximum number of tokens allowed (1048575).","status":"INVALID_ARGUMENT"}}"#,
        ),
    ] {
        let error = failure(vendor, http("400 Bad Request", "", body)).await;
        assert_eq!(
            (error.code(), error.retryable()),
            ("context_too_long", false),
            "{vendor:?}"
        );
    }
}

#[tokio::test]
async fn a_wrong_parameter_is_final_and_says_what_the_vendor_said() {
    let body = r#"{"error":{"message":"temperature: must be at most 2","type":"invalid_request_error","code":null}}"#;
    for vendor in ALL {
        let error = failure(vendor, http("400 Bad Request", "", body)).await;
        assert_eq!(
            (error.code(), error.retryable()),
            ("vendor_rejected", false)
        );
        assert!(
            error.message.contains("temperature: must be at most 2"),
            "{error}"
        );
        assert_eq!(
            failure(vendor, http("404 Not Found", "", body))
                .await
                .code(),
            "model_not_available"
        );
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    for vendor in ALL {
        let elsewhere = Fake::answering(answer(vendor)).await;
        let location = format!("location: {}/elsewhere\r\n", elsewhere.base_url);
        let error = failure(vendor, http("307 Temporary Redirect", &location, "")).await;
        assert_eq!(
            (error.code(), error.retryable()),
            ("vendor_rejected", false)
        );
        assert!(error.message.contains("redirect"), "{error}");
        assert!(
            elsewhere.requests.lock().unwrap().is_empty(),
            "the key and the prompt went elsewhere"
        );
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_given_up() {
    for vendor in ALL {
        let long = begins(vendor).replace("Hel", &"x".repeat(6_000));
        let fake = Fake::new(vec![
            Step::Send(bytes!("{STREAM}{long}{long}{long}")),
            Step::Wait(Duration::from_secs(60)),
        ])
        .await;
        let (result, _) = ask(vendor, &fake).await;
        let error = result.unwrap_err();
        assert_eq!(
            (error.code(), error.retryable()),
            ("vendor_too_large", false),
            "{vendor:?}"
        );
    }
}

/// More than all the buffers between the vendor and us together hold; a body that is read on and on passes it at once.
const BUFFERS: usize = 32 << 20;

#[tokio::test]
async fn a_body_without_an_end_is_given_up_whatever_it_forms() {
    let error = "HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
    for (what, head, part) in [
        ("no line", STREAM, "x"),
        ("one line", STREAM, "data: x"),
        ("lines without an event", STREAM, "data: x\n"),
        ("comments", STREAM, ": wait\n\n"),
        ("empty lines", STREAM, "\n"),
        ("an error page", error, "x"),
    ] {
        for vendor in ALL {
            let fake = Fake::new(vec![
                Step::Send(bytes!("{head}")),
                Step::Forever(part.repeat(8_192).into_bytes()),
            ])
            .await;
            let (result, _) = ask(vendor, &fake).await;
            let error = result.unwrap_err();
            assert_eq!(
                (error.code(), error.retryable()),
                ("vendor_too_large", false),
                "{vendor:?} {what}"
            );
            eventually("the vendor is hung up on", || {
                *fake.hung_up.lock().unwrap() == 1
            })
            .await;
            let poured = *fake.poured.lock().unwrap();
            assert!(poured < BUFFERS, "{vendor:?} {what}: {poured} bytes");
        }
    }
}

#[tokio::test]
async fn a_compressed_answer_is_not_unpacked() {
    // A gzip file of a thousand times its length in zeros, sent although nobody asked for one.
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&vec![0; 4 << 20]).unwrap();
    let packed = packed.finish().unwrap();
    assert!(packed.len() < 10_000, "less than the bound");
    for vendor in ALL {
        let head = STREAM.replacen("\r\n", "\r\ncontent-encoding: gzip\r\n", 1);
        let fake = Fake::new(vec![
            Step::Send(bytes!("{head}")),
            Step::Send(packed.clone()),
        ])
        .await;
        let (result, _) = ask(vendor, &fake).await;
        assert_eq!(result.unwrap_err().code(), "vendor_malformed", "{vendor:?}");
        assert!(!fake.request().0.to_lowercase().contains("accept-encoding"));
    }
}

#[tokio::test]
async fn an_answer_just_within_the_bound_is_whole() {
    for vendor in ALL {
        let fixed = begins(vendor).len() + ends(vendor).len();
        let text = "x".repeat(10_000 - fixed + "Hel".len());
        let whole = begins(vendor).replace("Hel", &text) + ends(vendor);
        assert_eq!(whole.len(), 10_000);
        let fake = Fake::answering(format!("{STREAM}{whole}")).await;
        assert_eq!(ask(vendor, &fake).await.0.unwrap().text, text + "lo!");
        let longer = whole.replacen("lo!", "lo!!", 1);
        let fake = Fake::answering(format!("{STREAM}{longer}")).await;
        let error = ask(vendor, &fake).await.0.unwrap_err();
        assert_eq!(error.code(), "vendor_too_large", "{vendor:?}");
    }
}

#[tokio::test]
async fn a_vendor_that_is_not_there_is_unavailable() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    for vendor in ALL {
        let error = client(vendor, &address)
            .complete(request(vendor, &json!({}), &Progress::default()))
            .await
            .unwrap_err();
        assert_eq!(
            error.fault,
            LlmFault::Unavailable,
            "{} {error}",
            model(vendor)
        );
        assert!(
            !error.message.contains("127.0.0.1"),
            "no address for tenants: {error}"
        );
    }
}

#[test]
fn codes_are_stable() {
    let codes: Vec<Value> = [
        LlmFault::ModelNotAvailable,
        LlmFault::Auth,
        LlmFault::RateLimited,
        LlmFault::QuotaExhausted,
        LlmFault::Overloaded,
        LlmFault::Unavailable,
        LlmFault::TimedOut,
        LlmFault::Truncated,
        LlmFault::Malformed,
        LlmFault::TooLarge,
        LlmFault::ContextTooLong,
        LlmFault::Rejected,
        LlmFault::Refused,
        LlmFault::Stopped,
        LlmFault::CutOff,
        LlmFault::Empty,
    ]
    .into_iter()
    .map(|fault| json!([fault.code(), fault.retryable()]))
    .collect();
    assert_eq!(
        json!(codes),
        json!([
            ["model_not_available", false],
            ["vendor_auth", false],
            ["vendor_rate_limited", true],
            ["vendor_quota_exhausted", false],
            ["vendor_overloaded", true],
            ["vendor_unavailable", true],
            ["vendor_timeout", true],
            ["vendor_truncated", true],
            ["vendor_malformed", true],
            ["vendor_too_large", false],
            ["context_too_long", false],
            ["vendor_rejected", false],
            ["model_refused", false],
            ["model_stopped", false],
            ["output_truncated", false],
            ["output_empty", true],
        ])
    );
}
