//! OpenAI (and any service with its chat completions API), Anthropic and Gemini over HTTP.
//!
//! Each is sent one message of a user and streams its answer as events. The guarded client bounds time and bytes and follows no
//! redirect, which could carry key and prompt elsewhere. A client crate for these vendors collects an answer until it forms an
//! event, without a bound; reading the events here takes less code than bounding it from outside.

use futures_util::future::BoxFuture;
use kijko_core::outbound::{Answer, Client, OutboundError, RequestBuilder};
use tokio::time::Instant;

use super::{
    config::VendorConfig,
    error::{LlmError, LlmFault},
    estimate,
    fault::{Faults, malformed, truncated},
    frames::{Flow, FrameReader},
    provider::{Completion, CompletionRequest, Provider},
    request,
    sse::Events,
    usage::Usage,
    vendor::{Endpoint, Vendor},
};
use crate::service::SERVICE;

/// One vendor, ready to be asked.
pub struct VendorClient {
    vendor: Vendor,
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

/// Why an answer was not read to its end.
enum ReadError {
    /// The connection, or a limit.
    Outbound(OutboundError),
    /// The vendor's error, or an event that is not of its protocol.
    Answer(LlmError),
}

impl From<OutboundError> for ReadError {
    fn from(error: OutboundError) -> Self {
        Self::Outbound(error)
    }
}

impl VendorClient {
    /// Sets up the client.
    pub fn new(vendor: Vendor, config: &VendorConfig) -> Result<Self, LlmError> {
        let client = Client::new(SERVICE, config.limits)
            .map_err(|error| LlmError::new(LlmFault::Unavailable, error.to_string()))?;
        Ok(Self {
            vendor,
            client,
            config: config.clone(),
        })
    }

    async fn ask(&self, request: CompletionRequest) -> Result<Completion, LlmError> {
        let call = self.call(&request)?;
        let start = Instant::now();
        let answer = match self.client.send(call).await {
            Ok(answer) => answer,
            Err(error) => return Err(self.faults().outbound(&error)),
        };
        if !answer.status().is_success() {
            return Err(self.refusal(answer).await);
        }
        let mut frames = FrameReader::new(self.vendor, request.progress.clone(), start);
        let read = self.read(answer, &mut frames).await;
        self.judge(read, frames, &request)
    }

    fn call(&self, request: &CompletionRequest) -> Result<RequestBuilder, LlmError> {
        if !self.vendor.takes_name(&request.model) {
            return Err(LlmError::new(
                LlmFault::ModelNotAvailable,
                format!("{} has no model of this name", self.vendor.name()),
            ));
        }
        let base = &self.config.base_url;
        let address = self.vendor.address(base, Endpoint::Chat, &request.model);
        let call = self.client.post(address);
        let call = self.vendor.authorize(call, self.config.api_key.as_ref());
        Ok(call.json(&request::body(self.vendor, request)))
    }

    async fn refusal(&self, answer: Answer) -> LlmError {
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        match answer.bytes().await {
            Ok(body) => self.faults().refusal(status, &body, &headers),
            Err(error) => self.faults().outbound(&error),
        }
    }

    /// Reads the events of an answer until its last one.
    async fn read(&self, mut answer: Answer, frames: &mut FrameReader) -> Result<(), ReadError> {
        let mut events = Events::default();
        while let Some(part) = answer.next().await? {
            for event in events.push(&part) {
                match frames.read(&event) {
                    Ok(Flow::More) => {}
                    Ok(Flow::End) => return Ok(()),
                    Ok(Flow::Error(body)) => {
                        return Err(ReadError::Answer(self.faults().event(&body)));
                    }
                    Err(error) if error.is_eof() => return Err(ReadError::Answer(truncated())),
                    Err(_) => return Err(ReadError::Answer(malformed())),
                }
            }
        }
        Ok(())
    }

    /// A refusal is one however the answer ended, unless it was too large. Otherwise the answer is what was read, or the reason
    /// why it was not.
    fn judge(
        &self,
        read: Result<(), ReadError>,
        frames: FrameReader,
        request: &CompletionRequest,
    ) -> Result<Completion, LlmError> {
        if let Err(ReadError::Outbound(error @ OutboundError::TooLarge(_))) = &read {
            return Err(self.faults().outbound(error));
        }
        let seen = frames.seen;
        if let Some(refusal) = &seen.refusal {
            let message = match refusal.as_str() {
                "" => "its filter stopped the answer",
                message => message,
            };
            let message = self.faults().quote(message);
            return Err(LlmError::new(
                LlmFault::Refused,
                format!("the model declined: {message}"),
            ));
        }
        match read {
            Ok(()) if seen.events == 0 => return Err(malformed()),
            Ok(()) => {}
            Err(ReadError::Outbound(error)) => return Err(self.faults().outbound(&error)),
            Err(ReadError::Answer(error)) => return Err(error),
        }
        let Some(finish_reason) = seen.finish_reason else {
            return Err(truncated());
        };
        is_answer(&finish_reason, &seen.text)?;
        let state = request.progress.state();
        let usage = match state.usage.is_empty() {
            true => self.estimate(&request.prompt, &seen.text),
            false => state.usage,
        };
        Ok(Completion {
            text: seen.text,
            model: state.model.unwrap_or_else(|| request.model.clone()),
            usage,
            finish_reason: Some(finish_reason),
        })
    }

    /// Some servers report no usage. Free of charge would be wrong, so it is estimated as for a reservation.
    fn estimate(&self, prompt: &str, text: &str) -> Usage {
        tracing::warn!(
            vendor = self.vendor.name(),
            "the vendor reported no usage; tokens are estimated"
        );
        Usage::new(estimate::tokens(prompt), estimate::tokens(text))
    }

    fn faults(&self) -> Faults<'_> {
        Faults {
            vendor: self.vendor,
            api_key: self.config.api_key.as_ref(),
        }
    }
}

/// Accepts a complete answer, or the usable part of one that was cut. A tool call, a paused turn or an unsupported language
/// is no answer to a prompt.
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
