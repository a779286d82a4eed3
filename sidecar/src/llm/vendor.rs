//! OpenAI (and whatever speaks its chat completions), Anthropic and Gemini, over one client crate.
//!
//! The crate makes each vendor's request and decodes its stream. Address, headers, TLS, time limits and the refusal to
//! follow redirects are ours: a redirect could carry key and prompt elsewhere.

use std::sync::Arc;

use futures_util::{StreamExt, future::BoxFuture};
use genai::{
    Client, Headers, ModelIden, ServiceTarget,
    adapter::AdapterKind,
    chat::{ChatRequest, ChatStreamEvent},
    resolver::{AuthData, Endpoint},
};
use reqwest::{Url, redirect};
use tokio::time::Instant;

use super::{
    Completion, CompletionRequest, LlmError, LlmFault, Provider,
    config::VendorConfig,
    estimate,
    fault::{Faults, malformed, silent, truncated},
    relay::{Broken, Call, Limits, Relay},
    request,
    usage::Usage,
    wire::Watch,
};

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    /// OpenAI, vLLM, Ollama, LiteLLM, OpenRouter, …
    OpenAi,
    /// Claude.
    Anthropic,
    /// Google's.
    Gemini,
}

impl Vendor {
    /// Prefix of its models.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
        }
    }

    /// Whose model it is, when a name says so without a prefix. Everything else may be anybody's.
    pub fn of_well_known(model: &str) -> Option<Self> {
        let is_o_series = model
            .strip_prefix('o')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        match model {
            _ if model.starts_with("claude-") => Some(Self::Anthropic),
            _ if model.starts_with("gemini-") => Some(Self::Gemini),
            _ if model.starts_with("gpt-") || model.starts_with("chatgpt-") || is_o_series => {
                Some(Self::OpenAi)
            }
            _ => None,
        }
    }

    fn adapter(self) -> AdapterKind {
        match self {
            Self::OpenAi => AdapterKind::OpenAI,
            Self::Anthropic => AdapterKind::Anthropic,
            Self::Gemini => AdapterKind::Gemini,
        }
    }

    /// The base URL is what the vendor's own libraries take under the same variable: OpenAI's with the version,
    /// the others' without; one that has it is fine as well.
    fn address(self, base: &Url, model: &str) -> Url {
        let mut address = base.clone();
        let path = base.path().trim_end_matches('/');
        let versioned = |version: &str| {
            if path.ends_with("/v1") || path.ends_with("/v1beta") {
                path.to_owned()
            } else {
                format!("{path}/{version}")
            }
        };
        match self {
            Self::OpenAi => address.set_path(&format!("{path}/chat/completions")),
            Self::Anthropic => address.set_path(&format!("{}/messages", versioned("v1"))),
            Self::Gemini => {
                address.set_path(&format!(
                    "{}/models/{model}:streamGenerateContent",
                    versioned("v1beta")
                ));
                address.set_query(Some("alt=sse"));
            }
        }
        address
    }
}

/// One vendor, ready to be asked.
pub struct VendorClient {
    vendor: Vendor,
    relay: Relay,
    client: Client,
    config: VendorConfig,
}

impl std::fmt::Debug for VendorClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VendorClient")
            .field("vendor", &self.vendor)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl VendorClient {
    /// Sets up the client, in a runtime.
    pub fn new(vendor: Vendor, config: &VendorConfig) -> Result<Self, LlmError> {
        let unavailable = |error: &dyn std::error::Error| {
            LlmError::new(LlmFault::Unavailable, kijko_core::db::with_causes(error))
        };
        let http = reqwest::Client::builder()
            .connect_timeout(config.connect_timeout)
            .timeout(config.timeout)
            .redirect(redirect::Policy::none())
            // A compressed answer would be bounded by what it is on the wire, not by what it becomes.
            .gzip(false)
            .user_agent(concat!("kijko-sidecar/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| unavailable(&error))?;
        let limits = Limits {
            bytes: config.max_response_bytes,
            idle: config.idle_timeout,
        };
        let relay = Relay::new(http, limits).map_err(|error| unavailable(&error))?;
        let client = relay.client().map_err(|error| unavailable(&error))?;
        let client = Client::builder()
            .with_reqwest(client)
            .build()
            .map_err(|_| {
                LlmError::new(LlmFault::Unavailable, "the vendor's client cannot be made")
            })?;
        Ok(Self {
            vendor,
            relay,
            client,
            config: config.clone(),
        })
    }

    async fn ask(&self, request: CompletionRequest) -> Result<Completion, LlmError> {
        let call = self.call(&request.model)?;
        let watch = Arc::new(Watch::new(self.vendor, request.progress.clone()));
        let options = request::options(self.vendor, &request)
            .with_stream_header_timeout(self.config.timeout)
            .with_raw_frame_sink_arc(watch.clone());
        let start = Instant::now();
        let answer = self
            .client
            .exec_chat_stream(
                self.target(&request.model, &call),
                ChatRequest::from_user(request.prompt.clone()),
                Some(&options),
            )
            .await;
        let read = match answer {
            Ok(answer) => self.read(answer.stream, start, &request).await,
            Err(error) => Err(self.faults().from(&error)),
        };
        self.judge(read, &call, &watch, &request)
    }

    fn call(&self, model: &str) -> Result<Call, LlmError> {
        // Gemini's is part of the address, and "::" means something to the client.
        if model.contains("::")
            || (self.vendor == Vendor::Gemini && model.contains(['/', ':', '@']))
        {
            return Err(LlmError::new(
                LlmFault::ModelNotAvailable,
                format!("{} has no model of this name", self.vendor.name()),
            ));
        }
        let address = self.vendor.address(&self.config.base_url, model);
        Ok(self.relay.call(address))
    }

    fn target(&self, model: &str, call: &Call) -> ServiceTarget {
        ServiceTarget {
            endpoint: Endpoint::from_owned(call.url()),
            auth: AuthData::RequestOverride {
                url: call.url(),
                headers: self.headers(),
            },
            model: ModelIden::new(self.vendor.adapter(), model),
        }
    }

    /// Servers on the operator's own machine often want no key.
    fn headers(&self) -> Headers {
        let key = self
            .config
            .api_key
            .as_ref()
            .map(|key| key.expose().to_owned());
        let mut headers = match (self.vendor, key) {
            (_, None) => Headers::default(),
            (Vendor::OpenAi, Some(key)) => {
                Headers::from(("authorization", format!("Bearer {key}")))
            }
            (Vendor::Anthropic, Some(key)) => Headers::from(("x-api-key", key)),
            (Vendor::Gemini, Some(key)) => Headers::from(("x-goog-api-key", key)),
        };
        if self.vendor == Vendor::Anthropic {
            headers.merge(("anthropic-version", "2023-06-01"));
        }
        headers
    }

    /// The text, as far as it came without an error.
    async fn read(
        &self,
        mut stream: genai::chat::ChatStream,
        start: Instant,
        request: &CompletionRequest,
    ) -> Result<String, LlmError> {
        let mut text = String::new();
        while let Some(event) = stream.next().await {
            let event = event.map_err(|error| self.faults().from(&error))?;
            let more = match event {
                ChatStreamEvent::Chunk(chunk) => {
                    text.push_str(&chunk.content);
                    chunk.content.len()
                }
                ChatStreamEvent::ReasoningChunk(chunk) => chunk.content.len(),
                ChatStreamEvent::End(_) => break,
                _ => continue,
            };
            request.progress.update(|state| {
                state.first_token.get_or_insert_with(|| start.elapsed());
                state.answer_bytes += more;
            });
        }
        Ok(text)
    }

    /// A refusal is one however the stream ended; otherwise what broke it, or that it had no end.
    fn judge(
        &self,
        read: Result<String, LlmError>,
        call: &Call,
        watch: &Watch,
        request: &CompletionRequest,
    ) -> Result<Completion, LlmError> {
        let seen = watch.seen();
        if matches!(call.broken(), Some(Broken::TooLarge)) {
            return Err(self.too_large());
        }
        if let Some(said) = &seen.refusal {
            let said = if said.is_empty() {
                "its filter stopped the answer"
            } else {
                said
            };
            return Err(LlmError::new(
                LlmFault::Refused,
                format!("the model declined: {}", self.faults().quote(said)),
            ));
        }
        // Before what the client crate makes of it, which sees no more than our end.
        match call.broken() {
            Some(Broken::Transport(error)) => return Err(self.faults().transport(error)),
            Some(Broken::Silent) => return Err(silent()),
            Some(Broken::TooLarge) | None => {}
        }
        let text = read?;
        if seen.events == 0 {
            return Err(malformed());
        }
        let Some(finish_reason) = seen.finish_reason else {
            return Err(truncated());
        };
        is_answer(&finish_reason, &text)?;
        let state = request.progress.state();
        let usage = if state.usage.is_empty() {
            self.estimate(&request.prompt, &text)
        } else {
            state.usage
        };
        Ok(Completion {
            text,
            model: state.model.unwrap_or_else(|| request.model.clone()),
            usage,
            finish_reason: Some(finish_reason),
        })
    }

    /// Some servers report no usage. Free of charge would be wrong; about four bytes a token is the usual rule of thumb.
    fn estimate(&self, prompt: &str, text: &str) -> Usage {
        tracing::warn!(
            vendor = self.vendor.name(),
            "the vendor reported no usage; tokens are estimated"
        );
        Usage::new(estimate::tokens(prompt), estimate::tokens(text))
    }

    fn too_large(&self) -> LlmError {
        LlmError::new(
            LlmFault::TooLarge,
            format!(
                "the answer is larger than {} bytes",
                self.config.max_response_bytes
            ),
        )
    }

    fn faults(&self) -> Faults<'_> {
        Faults {
            vendor: self.vendor,
            api_key: self.config.api_key.as_ref(),
        }
    }
}

/// Accepts a complete answer, or the usable part of one that was cut. A tool call, a paused turn or an unsupported language
/// is not what a skill asked for.
fn is_answer(finish_reason: &str, text: &str) -> Result<(), LlmError> {
    let empty = text.trim().is_empty();
    match (finish_reason, empty) {
        ("stop" | "length", false) => Ok(()),
        ("stop", true) => Err(LlmError::new(
            LlmFault::Empty,
            "the model ended without an answer",
        )),
        ("length", true) => Err(LlmError::new(
            LlmFault::CutOff,
            "the token limit was reached before the answer began; raise max_tokens",
        )),
        (reason, _) => Err(LlmError::new(
            LlmFault::Stopped,
            format!(
                "the model stopped before its answer was complete ({})",
                reason.chars().take(60).collect::<String>()
            ),
        )),
    }
}

impl Provider for VendorClient {
    fn name(&self) -> &'static str {
        self.vendor.name()
    }

    fn complete(&self, request: CompletionRequest) -> BoxFuture<'_, Result<Completion, LlmError>> {
        Box::pin(self.ask(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_names_tell_their_vendor() {
        for (name, vendor) in [
            ("gpt-4o", Some(Vendor::OpenAi)),
            ("chatgpt-4o-latest", Some(Vendor::OpenAi)),
            ("o3-mini", Some(Vendor::OpenAi)),
            ("claude-sonnet-4-5", Some(Vendor::Anthropic)),
            ("gemini-2.5-pro", Some(Vendor::Gemini)),
            ("llama3", None),
            ("other", None),
        ] {
            assert_eq!(Vendor::of_well_known(name), vendor, "{name}");
        }
    }

    #[test]
    fn addresses_take_a_base_with_and_without_a_version() {
        let address =
            |vendor: Vendor, base: &str| vendor.address(&base.parse().unwrap(), "m").to_string();
        assert_eq!(
            address(Vendor::OpenAi, "http://h/v1"),
            "http://h/v1/chat/completions"
        );
        for base in ["http://h", "http://h/v1"] {
            assert_eq!(address(Vendor::Anthropic, base), "http://h/v1/messages");
        }
        for base in ["http://h/proxy", "http://h/proxy/v1beta"] {
            assert_eq!(
                address(Vendor::Gemini, base),
                "http://h/proxy/v1beta/models/m:streamGenerateContent?alt=sse"
            );
        }
    }
}
