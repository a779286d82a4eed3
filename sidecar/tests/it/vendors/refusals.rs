//! Refusals, which are final.

use kijko_core::telemetry::capture::Capture;
use kijko_sidecar::llm::{Usage, Vendor};
use serde_json::json;

use super::*;
use crate::fakes::{ALL, KEY, client, http, refuses};

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
        assert_eq!(progress.state().usage, Usage::new(100, 5), "{vendor:?}");
    }
    let error = failure(
        Vendor::OpenAi,
        format!("{STREAM}{}", refuses(Vendor::OpenAi)),
    )
    .await;
    assert!(error.message.contains("I cannot help."), "{error}");
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
    assert_eq!(progress.state().usage, Usage::new(100, 0));
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

#[tokio::test]
async fn the_line_of_a_refusal_says_how_long_the_vendors_message_is() {
    let log = Capture::start();
    let body = r#"{"error":{"message":"no such parameter","type":"invalid_request_error"}}"#;
    failure(Vendor::OpenAi, http("400 Bad Request", "", body)).await;
    let lines = log.lines("kijko_sidecar::llm::fault");
    assert_eq!(
        ["vendor", "status", "code", "message_bytes", "message"].map(|field| &lines[0][field]),
        [
            &json!("openai"),
            &json!(400),
            &json!("vendor_rejected"),
            &json!(17),
            &json!("the vendor refused")
        ]
    );
}

#[tokio::test]
async fn a_refusal_that_repeats_the_prompt_does_not_log_it() {
    let words = "invalid content: my confidential prompt";
    for vendor in ALL {
        for status in [
            "400 Bad Request",
            "404 Not Found",
            "429 Too Many Requests",
            "503 Unavailable",
            "200",
        ] {
            let log = Capture::start();
            let body = json!({"type": "error", "error": {"message": words, "type": words, "code": words, "status": words}}).to_string();
            let answer = match status {
                "200" => format!("{STREAM}{}event: error\ndata: {body}\n\n", begins(vendor)),
                status => http(status, "", &body),
            };
            failure(vendor, answer).await;
            let text = log.text();
            assert!(!text.is_empty(), "{vendor:?} {status}");
            assert!(
                !text.contains("confidential"),
                "{vendor:?} {status}: {text}"
            );
        }
    }
}

#[tokio::test]
async fn no_refusal_reveals_the_operators_account() {
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
            let message = if event {
                format!("{STREAM}{}event: error\ndata: {body}\n\n", begins(vendor))
            } else {
                http(status, "", &body)
            };
            let error = failure(vendor, message).await;
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
async fn an_exhausted_account_is_final() {
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
async fn a_prompt_that_is_too_long_is_final() {
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
async fn a_wrong_parameter_is_final_and_quotes_the_vendor() {
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
