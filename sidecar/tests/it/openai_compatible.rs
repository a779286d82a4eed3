//! The OpenAI-compatible provider against a fake on a local port, which answers byte for byte as a vendor might.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use kijko_sidecar::{
    config::OpenAiConfig,
    llm::{Completion, CompletionRequest, LlmError, OpenAiCompatible, Provider},
    secret::Secret,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const KEY: &str = "sk-test-0123456789";

const SUCCESS: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-4o-2024-08-06","choices":[{"index":0,
"message":{"role":"assistant","content":"Hello!","refusal":null},"logprobs":null,"finish_reason":"stop"}],
"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#;

/// Answers each connection with these bytes and keeps the requests.
struct Vendor {
    base_url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Vendor {
    async fn answering(answer: impl Into<String>, then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (answer, requests) = (answer.into(), Arc::<Mutex<Vec<String>>>::default());
        let seen = requests.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer.clone(), then, seen.clone()));
            }
        });
        Self { base_url, requests }
    }

    fn provider(&self) -> OpenAiCompatible {
        provider(&self.base_url)
    }

    fn request(&self) -> String {
        self.requests
            .lock()
            .unwrap()
            .first()
            .cloned()
            .expect("a request")
    }
}

#[derive(Clone, Copy)]
enum Then {
    Close,
    Hang,
}

async fn serve(mut stream: TcpStream, answer: String, then: Then, seen: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    while !is_complete(&request) {
        let mut part = [0; 4096];
        match stream.read(&mut part).await {
            Ok(read) if read > 0 => request.extend_from_slice(&part[..read]),
            _ => return,
        }
    }
    seen.lock()
        .unwrap()
        .push(String::from_utf8(request).unwrap());
    stream.write_all(answer.as_bytes()).await.ok();
    if matches!(then, Then::Hang) {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}

fn is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("content-length: ")?
            .parse::<usize>()
            .ok()
    });
    body.len() >= length.unwrap_or(0)
}

fn http(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{headers}connection: close\r\n\r\n{body}",
        body.len()
    )
}

fn provider(base_url: &str) -> OpenAiCompatible {
    OpenAiCompatible::new(&OpenAiConfig {
        base_url: base_url.parse().unwrap(),
        api_key: Some(Secret::new(KEY)),
        connect_timeout: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        max_response_bytes: 10_000,
    })
    .unwrap()
}

async fn ask(provider: &OpenAiCompatible, parameters: Value) -> Result<Completion, LlmError> {
    let parameters = parameters.as_object().unwrap().clone();
    provider
        .complete(CompletionRequest {
            model: "gpt-4o".into(),
            prompt: "Say hello".into(),
            parameters,
        })
        .await
}

async fn refusal(status: &str, headers: &str, body: &str) -> LlmError {
    let vendor = Vendor::answering(http(status, headers, body), Then::Close).await;
    ask(&vendor.provider(), json!({})).await.unwrap_err()
}

#[tokio::test]
async fn a_completion() {
    let vendor = Vendor::answering(http("200 OK", "", SUCCESS), Then::Close).await;
    let completion = ask(&vendor.provider(), json!({})).await.unwrap();
    assert_eq!(
        completion,
        Completion {
            text: "Hello!".into(),
            model: "gpt-4o-2024-08-06".into(),
            input_tokens: 9,
            output_tokens: 2,
            finish_reason: Some("stop".into()),
        }
    );
}

#[tokio::test]
async fn the_request_is_what_the_protocol_says_and_nothing_else_is_passed_on() {
    let vendor = Vendor::answering(http("200 OK", "", SUCCESS), Then::Close).await;
    let parameters = json!({"temperature": 0.2, "response_format": "json", "messages": [], "stream": true, "delay_ms": 5});
    ask(&vendor.provider(), parameters).await.unwrap();
    let request = vendor.request();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(
        head.contains(&format!("authorization: Bearer {KEY}")),
        "{head}"
    );
    assert_eq!(
        serde_json::from_str::<Value>(body).unwrap(),
        json!({
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": "Say hello"}],
            "temperature": 0.2,
            "response_format": {"type": "json_object"},
        })
    );
}

#[tokio::test]
async fn without_usage_tokens_are_estimated_and_not_free() {
    let body = r#"{"choices":[{"message":{"content":"12345678"}}]}"#;
    let vendor = Vendor::answering(http("200 OK", "", body), Then::Close).await;
    let completion = ask(&vendor.provider(), json!({})).await.unwrap();
    assert_eq!(
        (
            completion.input_tokens,
            completion.output_tokens,
            completion.model.as_str()
        ),
        (3, 2, "gpt-4o")
    );
}

#[tokio::test]
async fn a_wrong_key_is_final_and_is_not_quoted() {
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let body = format!(
            r#"{{"error":{{"message":"Incorrect API key provided: {KEY}","type":"invalid_request_error","code":"invalid_api_key"}}}}"#
        );
        let error = refusal(status, "", &body).await;
        assert_eq!((error.code(), error.retryable()), ("vendor_auth", false));
        assert!(!error.message.contains(KEY) && !format!("{error:?}").contains(KEY));
    }
}

#[tokio::test]
async fn too_many_requests_is_retried_when_the_vendor_wants_it() {
    let body = r#"{"error":{"message":"Rate limit reached","type":"requests","code":"rate_limit_exceeded"}}"#;
    let error = refusal("429 Too Many Requests", "retry-after: 17\r\n", body).await;
    assert_eq!(
        (error.code(), error.retryable(), error.retry_after),
        ("vendor_rate_limited", true, Some(Duration::from_secs(17)))
    );

    let far = refusal(
        "429 Too Many Requests",
        "retry-after: Fri, 31 Dec 2100 23:59:59 GMT\r\n",
        body,
    )
    .await;
    assert_eq!(far.retry_after, Some(Duration::from_secs(3_600)));
    let nonsense = refusal("429 Too Many Requests", "retry-after: soon\r\n", body).await;
    assert_eq!(nonsense.retry_after, None);
}

#[tokio::test]
async fn an_account_that_is_used_up_is_final() {
    let body = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#;
    let error = refusal("429 Too Many Requests", "", body).await;
    assert_eq!(
        (error.code(), error.retryable()),
        ("vendor_quota_exhausted", false)
    );
}

#[tokio::test]
async fn server_errors_are_retried_whatever_their_body() {
    for status in [
        "500 Internal Server Error",
        "502 Bad Gateway",
        "503 Service Unavailable",
        "529 Overloaded",
    ] {
        let error = refusal(status, "", "<html>oops</html>").await;
        assert_eq!(
            (error.code(), error.retryable()),
            ("vendor_unavailable", true),
            "{status}"
        );
    }
}

#[tokio::test]
async fn a_wrong_parameter_is_final_and_says_what_the_vendor_said() {
    let body = r#"{"error":{"message":"max_tokens is too large: 900000","type":"invalid_request_error","param":"max_tokens","code":null}}"#;
    let error = refusal("400 Bad Request", "", body).await;
    assert_eq!(
        (error.code(), error.retryable()),
        ("vendor_rejected", false)
    );
    assert!(error.message.contains("max_tokens is too large"), "{error}");
    assert_eq!(
        refusal("404 Not Found", "", body).await.code(),
        "model_not_available"
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Vendor::answering(http("200 OK", "", SUCCESS), Then::Close).await;
    let location = format!("location: {}/chat/completions\r\n", elsewhere.base_url);
    let error = refusal("307 Temporary Redirect", &location, "").await;
    assert_eq!(
        (error.code(), error.retryable()),
        ("vendor_rejected", false)
    );
    assert!(
        elsewhere.requests.lock().unwrap().is_empty(),
        "the key and the prompt went elsewhere"
    );
}

#[tokio::test]
async fn malformed_answers() {
    for body in [
        "",
        "not json",
        "[]",
        r#"{"choices":[]}"#,
        r#"{"choices":[{"message":{"content":null}}]}"#,
    ] {
        let error = refusal("200 OK", "", body).await;
        assert_eq!(
            (error.code(), error.retryable()),
            ("vendor_malformed", true),
            "{body:?}"
        );
    }
}

#[tokio::test]
async fn a_model_that_declines_is_final() {
    for body in [
        r#"{"choices":[{"message":{"content":null,"refusal":"I can't help with that."},"finish_reason":"stop"}]}"#,
        r#"{"choices":[{"message":{"content":""},"finish_reason":"content_filter"}]}"#,
    ] {
        let error = refusal("200 OK", "", body).await;
        assert_eq!(
            (error.code(), error.retryable()),
            ("vendor_refused", false),
            "{body}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off() {
    let whole = http("200 OK", "", SUCCESS);
    let vendor = Vendor::answering(&whole[..whole.len() - 40], Then::Close).await;
    let error = ask(&vendor.provider(), json!({})).await.unwrap_err();
    assert_eq!(
        (error.code(), error.retryable()),
        ("vendor_truncated", true)
    );
}

#[tokio::test]
async fn a_slow_answer_is_given_up_in_time() {
    let whole = http("200 OK", "", SUCCESS);
    for answer in ["", &whole[..whole.len() - 40]] {
        let vendor = Vendor::answering(answer, Then::Hang).await;
        let start = Instant::now();
        let error = ask(&vendor.provider(), json!({})).await.unwrap_err();
        assert_eq!((error.code(), error.retryable()), ("vendor_timeout", true));
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large() {
    let vendor = Vendor::answering(http("200 OK", "", &" ".repeat(10_001)), Then::Close).await;
    assert_eq!(
        ask(&vendor.provider(), json!({})).await.unwrap_err().code(),
        "vendor_too_large"
    );
}

#[tokio::test]
async fn a_vendor_that_is_not_there() {
    let error = ask(&provider("http://127.0.0.1:1/v1"), json!({}))
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.retryable()),
        ("vendor_unavailable", true)
    );
    assert!(!error.message.contains("127.0.0.1"), "{error}");
}
