//! Any service that speaks OpenAI's chat completions: OpenAI, vLLM, Ollama, LiteLLM, OpenRouter, …

use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, future::BoxFuture};
use reqwest::{Client, Response, StatusCode, Url, header, redirect};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Completion, CompletionRequest, LlmError, LlmFault, Provider};
use crate::{config::OpenAiConfig, secret::Secret};

/// Prefix of its models.
pub(super) const NAME: &str = "openai";

/// Parameters that are passed on. Everything else in a skill's parameters is ours or a mistake, and a field such as
/// `messages` or `stream` would change what we asked.
const PASSED_ON: [&str; 11] = [
    "frequency_penalty",
    "logit_bias",
    "max_completion_tokens",
    "max_tokens",
    "presence_penalty",
    "reasoning_effort",
    "response_format",
    "seed",
    "stop",
    "temperature",
    "top_p",
];

/// The longest part of a vendor's own words that an execution keeps.
const LONGEST_QUOTE: usize = 500;

/// The vendor.
#[derive(Debug)]
pub struct OpenAiCompatible {
    client: Client,
    endpoint: Url,
    api_key: Option<Secret>,
    max_response_bytes: usize,
}

impl OpenAiCompatible {
    /// Sets up the client: time limits, and no redirects, since a redirect could carry key and prompt elsewhere.
    pub fn new(config: &OpenAiConfig) -> Result<Self, LlmError> {
        let client = Client::builder()
            .connect_timeout(config.connect_timeout)
            .timeout(config.timeout)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("kijko-sidecar/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| {
                LlmError::new(LlmFault::Unavailable, crate::db::with_causes(&error))
            })?;
        let mut endpoint = config.base_url.clone();
        endpoint.set_path(&format!(
            "{}/chat/completions",
            endpoint.path().trim_end_matches('/')
        ));
        Ok(Self {
            client,
            endpoint,
            api_key: config.api_key.clone(),
            max_response_bytes: config.max_response_bytes,
        })
    }

    async fn ask(&self, request: CompletionRequest) -> Result<Completion, LlmError> {
        let mut call = self
            .client
            .post(self.endpoint.clone())
            .json(&body(&request));
        if let Some(key) = &self.api_key {
            call = call.bearer_auth(key.expose());
        }
        let response = call.send().await.map_err(|error| self.transport(&error))?;
        let (status, wait) = (response.status(), retry_after(&response, SystemTime::now()));
        let body = self.read(response).await;
        if status.is_success() {
            return completion(&body?, &request);
        }
        // What an error says is welcome, but its status counts even when its body is cut short.
        let words = body.ok().and_then(|body| VendorError::parse(&body));
        Err(self.refusal(status, words, wait))
    }

    async fn read(&self, response: Response) -> Result<Vec<u8>, LlmError> {
        let mut body = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| self.broken_body(&error))?;
            if body.len() + chunk.len() > self.max_response_bytes {
                let message = format!(
                    "the answer is larger than {} bytes",
                    self.max_response_bytes
                );
                return Err(LlmError::new(LlmFault::TooLarge, message));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The execution hears which kind; the log has the cause, without the address.
    fn transport(&self, error: &reqwest::Error) -> LlmError {
        tracing::warn!(
            provider = NAME,
            error = self.cause(error),
            "the vendor could not be reached"
        );
        if error.is_timeout() {
            LlmError::new(LlmFault::TimedOut, "the vendor did not answer in time")
        } else {
            LlmError::new(LlmFault::Unavailable, "the vendor could not be reached")
        }
    }

    fn broken_body(&self, error: &reqwest::Error) -> LlmError {
        tracing::warn!(
            provider = NAME,
            error = self.cause(error),
            "the vendor's answer broke off"
        );
        if error.is_timeout() {
            LlmError::new(
                LlmFault::TimedOut,
                "the vendor did not finish its answer in time",
            )
        } else {
            LlmError::new(LlmFault::Truncated, "the vendor's answer broke off")
        }
    }

    fn cause(&self, error: &reqwest::Error) -> String {
        let address = error.url().map(ToString::to_string).unwrap_or_default();
        let text = crate::db::with_causes(error);
        let text = if address.is_empty() {
            text
        } else {
            text.replace(&address, "the vendor")
        };
        self.api_key
            .as_ref()
            .map_or(text.clone(), |key| key.redact(&text))
    }

    fn refusal(
        &self,
        status: StatusCode,
        words: Option<VendorError>,
        wait: Option<Duration>,
    ) -> LlmError {
        let fault = fault_of(status, words.as_ref());
        let said = words.map_or_else(|| "without a reason".to_owned(), |words| words.message);
        let said = self
            .api_key
            .as_ref()
            .map_or(said.clone(), |key| key.redact(&said));
        let said: String = said.chars().take(LONGEST_QUOTE).collect();
        let message = match fault {
            // The operator's account, not the tenant's: OpenAI quotes part of the key in these.
            LlmFault::Auth => "the vendor does not accept the key it was given".to_owned(),
            LlmFault::QuotaExhausted => "the account with the vendor is used up".to_owned(),
            LlmFault::RateLimited => "the vendor takes no more requests at the moment".to_owned(),
            LlmFault::Unavailable => {
                format!("the vendor is not available (HTTP {})", status.as_u16())
            }
            _ if status.is_redirection() => format!(
                "the vendor answered with a redirect (HTTP {}), which is not followed",
                status.as_u16()
            ),
            _ => format!("the vendor refused (HTTP {}): {said}", status.as_u16()),
        };
        tracing::warn!(
            provider = NAME,
            status = status.as_u16(),
            said,
            "the vendor refused"
        );
        LlmError {
            fault,
            message,
            retry_after: wait,
        }
    }
}

impl Provider for OpenAiCompatible {
    fn name(&self) -> &'static str {
        NAME
    }

    fn complete(&self, request: CompletionRequest) -> BoxFuture<'_, Result<Completion, LlmError>> {
        Box::pin(self.ask(request))
    }
}

fn body(request: &CompletionRequest) -> Value {
    let mut body = json!({
        "model": request.model,
        "messages": [{"role": "user", "content": request.prompt}],
    });
    for name in PASSED_ON {
        if let Some(value) = request.parameters.get(name) {
            body[name] = response_format(name, value);
        }
    }
    body
}

/// `"response_format": "json"` is short for what OpenAI calls `{"type": "json_object"}`.
fn response_format(name: &str, value: &Value) -> Value {
    match (name, value.as_str()) {
        ("response_format", Some("json")) => json!({"type": "json_object"}),
        ("response_format", Some(kind)) => json!({"type": kind}),
        _ => value.clone(),
    }
}

fn fault_of(status: StatusCode, words: Option<&VendorError>) -> LlmFault {
    match status.as_u16() {
        401 | 403 => LlmFault::Auth,
        402 => LlmFault::QuotaExhausted,
        404 => LlmFault::ModelNotAvailable,
        429 if words.is_some_and(|words| words.is("insufficient_quota")) => {
            LlmFault::QuotaExhausted
        }
        429 => LlmFault::RateLimited,
        408 => LlmFault::TimedOut,
        409 | 425 | 500..=599 => LlmFault::Unavailable,
        _ => LlmFault::Rejected,
    }
}

/// Seconds or an HTTP date; more than an hour is cut, since the queue asks again anyway.
fn retry_after(response: &Response, now: SystemTime) -> Option<Duration> {
    let value = response
        .headers()
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim();
    let wait = match value.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds >= 0.0 => {
            Duration::from_secs_f64(seconds.min(3_600.0))
        }
        Ok(_) => return None,
        Err(_) => httpdate::parse_http_date(value)
            .ok()?
            .duration_since(now)
            .unwrap_or_default(),
    };
    Some(wait.min(Duration::from_secs(3_600)))
}

/// What the vendor says in the body of an error.
struct VendorError {
    message: String,
    code: Option<String>,
    kind: Option<String>,
}

impl VendorError {
    /// `{"error": {"message", "type", "code"}}` in general; some servers send `{"error": "…"}` or `{"message": "…"}`.
    fn parse(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let error = body.get("error").unwrap_or(&body);
        let text = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_owned);
        let message = text("message").or_else(|| error.as_str().map(str::to_owned))?;
        Some(Self {
            message,
            code: text("code"),
            kind: text("type"),
        })
    }

    fn is(&self, name: &str) -> bool {
        self.code.as_deref() == Some(name) || self.kind.as_deref() == Some(name)
    }
}

#[derive(Deserialize)]
struct ChatCompletion {
    model: Option<String>,
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
    refusal: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

fn completion(body: &[u8], request: &CompletionRequest) -> Result<Completion, LlmError> {
    let malformed =
        |what: &str| LlmError::new(LlmFault::Malformed, format!("the vendor's answer {what}"));
    let answer: ChatCompletion = serde_json::from_slice(body).map_err(|error| {
        tracing::warn!(provider = NAME, %error, bytes = body.len(), "the vendor's answer is not a chat completion");
        malformed("is not a chat completion")
    })?;
    let choice = answer
        .choices
        .into_iter()
        .next()
        .ok_or_else(|| malformed("holds no choice"))?;
    if choice.message.refusal.is_some() || choice.finish_reason.as_deref() == Some("content_filter")
    {
        let said = choice
            .message
            .refusal
            .unwrap_or_else(|| "its content filter stopped the answer".to_owned());
        let said: String = said.chars().take(LONGEST_QUOTE).collect();
        return Err(LlmError::new(
            LlmFault::Refused,
            format!("the model declined: {said}"),
        ));
    }
    let text = choice
        .message
        .content
        .ok_or_else(|| malformed("holds no text"))?;
    let usage = answer
        .usage
        .unwrap_or_else(|| estimate(&request.prompt, &text));
    Ok(Completion {
        text,
        model: answer
            .model
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| request.model.clone()),
        input_tokens: usage.prompt_tokens,
        output_tokens: usage.completion_tokens,
        finish_reason: choice.finish_reason,
    })
}

/// Some servers report no usage. Free of charge would be wrong; about four bytes a token is the usual rule of thumb.
fn estimate(prompt: &str, text: &str) -> Usage {
    tracing::warn!(
        provider = NAME,
        "the vendor reported no usage; tokens are estimated"
    );
    Usage {
        prompt_tokens: prompt.len().div_ceil(4) as u64,
        completion_tokens: text.len().div_ceil(4) as u64,
    }
}
