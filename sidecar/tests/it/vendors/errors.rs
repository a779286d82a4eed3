//! Errors that may pass, and errors of the connection.

use std::time::Duration;

use kijko_sidecar::llm::{LlmFault, Progress, Provider, Vendor};
use serde_json::{Value, json};

use super::*;
use crate::fakes::{ALL, client, http, model, request};

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
async fn too_many_requests_is_retried_as_the_vendor_asks() {
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
async fn failing_vendors_are_asked_again() {
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
            assert_eq!(progress.state().usage.input, 100, "{vendor:?}");
        }
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
async fn an_unreachable_vendor_is_unavailable() {
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
