//! Model vendors on a local port, which answer byte for byte as the real ones do (taken from their documentation).

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use kijko_core::{outbound::Limits, secret::Secret};
use kijko_sidecar::llm::{
    Completion, CompletionRequest, LlmError, Progress, Provider, Vendor, VendorClient,
    VendorConfig, max_tokens,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

pub const KEY: &str = "sk-test-0123456789";
pub const ALL: [Vendor; 3] = [Vendor::OpenAi, Vendor::Anthropic, Vendor::Gemini];

/// What happens on the wire after a request.
#[derive(Clone)]
pub enum Step {
    Send(Vec<u8>),
    Wait(Duration),
    /// The same bytes until the other side has enough.
    Forever(Vec<u8>),
}

/// A vendor that goes through these steps on each connection, closes it, and keeps the requests.
pub struct Fake {
    pub base_url: String,
    pub requests: Arc<Mutex<Vec<String>>>,
    /// Connections that the other side closed while we were waiting or sending.
    pub hung_up: Arc<Mutex<usize>>,
    /// Bytes that an endless answer got rid of.
    pub poured: Arc<Mutex<usize>>,
}

impl Fake {
    pub async fn new(steps: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Self {
            base_url: format!("http://{}/v1", listener.local_addr().unwrap()),
            requests: Arc::default(),
            hung_up: Arc::default(),
            poured: Arc::default(),
        };
        let (seen, hung_up) = (fake.requests.clone(), fake.hung_up.clone());
        let poured = fake.poured.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(
                    stream,
                    steps.clone(),
                    seen.clone(),
                    hung_up.clone(),
                    poured.clone(),
                ));
            }
        });
        fake
    }

    pub async fn answering(answer: impl Into<String>) -> Self {
        Self::new(vec![Step::Send(answer.into().into_bytes())]).await
    }

    pub fn client(&self, vendor: Vendor) -> VendorClient {
        client(vendor, &self.base_url)
    }

    /// Head and body of the first request.
    pub fn request(&self) -> (String, Value) {
        let requests = self.requests.lock().unwrap();
        let (head, body) = requests
            .first()
            .expect("a request")
            .split_once("\r\n\r\n")
            .unwrap();
        (head.to_owned(), serde_json::from_str(body).unwrap())
    }
}

pub fn client(vendor: Vendor, base_url: &str) -> VendorClient {
    let config = VendorConfig {
        base_url: base_url.parse().unwrap(),
        api_key: Some(Secret::new(KEY)),
        limits: Limits {
            connect_timeout: Duration::from_secs(2),
            total_timeout: Duration::from_secs(4),
            idle_timeout: Duration::from_millis(500),
            max_bytes: 10_000,
        },
    };
    VendorClient::new(vendor, &config).unwrap()
}

pub fn model(vendor: Vendor) -> &'static str {
    match vendor {
        Vendor::OpenAi => "gpt-4o",
        Vendor::Anthropic => "claude-sonnet-4-5",
        Vendor::Gemini => "gemini-2.5-flash",
    }
}

pub fn request(vendor: Vendor, parameters: &Value, progress: &Progress) -> CompletionRequest {
    CompletionRequest {
        model: model(vendor).into(),
        prompt: "Say hello".into(),
        parameters: parameters.as_object().unwrap().clone(),
        max_tokens: max_tokens(parameters.as_object().unwrap(), 8_192, None).unwrap(),
        progress: progress.clone(),
    }
}

/// Asks once; what was used is known whatever came of it.
pub async fn ask(vendor: Vendor, fake: &Fake) -> (Result<Completion, LlmError>, Progress) {
    let progress = Progress::default();
    let request = request(vendor, &serde_json::json!({}), &progress);
    (fake.client(vendor).complete(request).await, progress)
}

async fn serve(
    mut stream: TcpStream,
    steps: Vec<Step>,
    seen: Arc<Mutex<Vec<String>>>,
    hung_up: Arc<Mutex<usize>>,
    poured: Arc<Mutex<usize>>,
) {
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
    for step in steps {
        match step {
            Step::Send(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Step::Forever(bytes) => {
                while stream.write_all(&bytes).await.is_ok() {
                    *poured.lock().unwrap() += bytes.len();
                }
                *hung_up.lock().unwrap() += 1;
                return;
            }
            Step::Wait(time) => {
                let mut nothing = [0; 1];
                if let Ok(Ok(0) | Err(_)) =
                    tokio::time::timeout(time, stream.read(&mut nothing)).await
                {
                    *hung_up.lock().unwrap() += 1;
                    return;
                }
            }
        }
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

/// A whole response.
pub fn http(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{headers}connection: close\r\n\r\n{body}",
        body.len()
    )
}

/// The head of a stream that ends when the connection does.
pub const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n\r\n";

/// A stream whose end is announced, so that a connection which closes before it broke off.
pub fn chunked(body: &str, ended: bool) -> String {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let end = if ended { "0\r\n\r\n" } else { "" };
    format!("{head}{:x}\r\n{body}\r\n{end}", body.len())
}

/// The beginning of an answer: everything until its last words.
pub fn begins(vendor: Vendor) -> &'static str {
    match vendor {
        Vendor::OpenAi => concat!(
            r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o-2024-08-06","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null}],"usage":null}"#,
            "\n\n",
            r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o-2024-08-06","choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}],"usage":null}"#,
            "\n\n",
        ),
        Vendor::Anthropic => concat!(
            "event: message_start\n",
            r#"data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4-5-20250929","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":10,"cache_creation_input_tokens":30,"cache_read_input_tokens":60,"cache_creation":{"ephemeral_5m_input_tokens":10,"ephemeral_1h_input_tokens":20},"output_tokens":1}}}"#,
            "\n\n",
            "event: content_block_start\n",
            r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            "\n\n",
            "event: ping\n",
            r#"data: {"type":"ping"}"#,
            "\n\n",
            "event: content_block_delta\n",
            r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hel"}}"#,
            "\n\n",
        ),
        Vendor::Gemini => concat!(
            r#"data: {"candidates":[{"content":{"parts":[{"text":"Hel"}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":100,"cachedContentTokenCount":60,"totalTokenCount":100},"modelVersion":"gemini-2.5-flash-001","responseId":"r1"}"#,
            "\r\n\r\n",
        ),
    }
}

/// Its last words and its end.
pub fn ends(vendor: Vendor) -> &'static str {
    match vendor {
        Vendor::OpenAi => concat!(
            r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o-2024-08-06","choices":[{"index":0,"delta":{"content":"lo!"},"finish_reason":null}],"usage":null}"#,
            "\n\n",
            r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o-2024-08-06","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#,
            "\n\n",
            r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o-2024-08-06","choices":[],"usage":{"prompt_tokens":100,"completion_tokens":12,"total_tokens":112,"prompt_tokens_details":{"cached_tokens":60,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":10}}}"#,
            "\n\n",
            "data: [DONE]\n\n",
        ),
        Vendor::Anthropic => concat!(
            "event: content_block_delta\n",
            r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"lo!"}}"#,
            "\n\n",
            "event: content_block_stop\n",
            r#"data: {"type":"content_block_stop","index":0}"#,
            "\n\n",
            "event: message_delta\n",
            r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":12}}"#,
            "\n\n",
            "event: message_stop\n",
            r#"data: {"type":"message_stop"}"#,
            "\n\n",
        ),
        Vendor::Gemini => concat!(
            r#"data: {"candidates":[{"content":{"parts":[{"text":"lo!"}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":100,"candidatesTokenCount":2,"cachedContentTokenCount":60,"thoughtsTokenCount":10,"totalTokenCount":112},"modelVersion":"gemini-2.5-flash-001","responseId":"r1"}"#,
            "\r\n\r\n",
        ),
    }
}

/// An answer that a filter or the model itself stops.
pub fn refuses(vendor: Vendor) -> &'static str {
    match vendor {
        Vendor::OpenAi => concat!(
            r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o-2024-08-06","choices":[{"index":0,"delta":{"role":"assistant","content":null,"refusal":"I cannot "},"finish_reason":null}]}"#,
            "\n\n",
            r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o-2024-08-06","choices":[{"index":0,"delta":{"refusal":"help."},"finish_reason":null}]}"#,
            "\n\n",
            r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o-2024-08-06","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
            "\n\n",
            r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o-2024-08-06","choices":[],"usage":{"prompt_tokens":100,"completion_tokens":5,"total_tokens":105}}"#,
            "\n\n",
            "data: [DONE]\n\n",
        ),
        Vendor::Anthropic => concat!(
            "event: message_start\n",
            r#"data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4-5-20250929","content":[],"stop_reason":null,"usage":{"input_tokens":100,"output_tokens":1}}}"#,
            "\n\n",
            "event: message_delta\n",
            r#"data: {"type":"message_delta","delta":{"stop_reason":"refusal","stop_sequence":null},"usage":{"output_tokens":5}}"#,
            "\n\n",
            "event: message_stop\n",
            r#"data: {"type":"message_stop"}"#,
            "\n\n",
        ),
        Vendor::Gemini => concat!(
            r#"data: {"candidates":[{"finishReason":"SAFETY","index":0,"safetyRatings":[{"category":"HARM_CATEGORY_HARASSMENT","probability":"HIGH","blocked":true}]}],"usageMetadata":{"promptTokenCount":100,"candidatesTokenCount":5,"totalTokenCount":105},"modelVersion":"gemini-2.5-flash-001"}"#,
            "\r\n\r\n",
        ),
    }
}
