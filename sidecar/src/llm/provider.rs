//! What a model is asked and what it answers, and the interface that every vendor has.

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use super::{
    error::LlmError,
    estimate,
    usage::{Progress, Usage},
};

/// One question to a model.
#[derive(Debug, Clone)]
pub struct CompletionRequest {
    /// The vendor's own name of the model, without our prefix.
    pub model: String,
    /// The rendered prompt.
    pub prompt: String,
    /// The skill's parameters, as its author wrote them; each provider takes those it knows.
    pub parameters: Map<String, Value>,
    /// The longest answer that the vendor may give; reserved before the call, so it is always sent.
    pub max_tokens: u64,
    /// Kept up to date by the provider: a call that is dropped or fails is settled from it.
    pub progress: Progress,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The answer.
    pub text: String,
    /// The model that answered, by the vendor's name ("gpt-4o-2024-08-06" for "gpt-4o").
    pub model: String,
    /// What it used, as the vendor counts.
    pub usage: Usage,
    /// Why the model stopped: `stop`, `length` when the answer was cut, or the vendor's own reason.
    pub finish_reason: Option<String>,
}

/// A vendor of completions. Dropping the returned future cancels the call.
pub trait Provider: Send + Sync {
    /// Short name, used in metrics and as prefix of the model that answered.
    fn name(&self) -> &'static str;

    /// The most that the call can use, known before it. Vendors report the actual use afterwards.
    fn max_usage(&self, request: &CompletionRequest) -> Usage {
        let input = estimate::request_tokens(&request.prompt, &request.parameters);
        Usage::new(input, request.max_tokens)
    }

    /// Asks the model once. Retrying is the queue's business, which survives this process.
    fn complete(&self, request: CompletionRequest) -> BoxFuture<'_, Result<Completion, LlmError>>;
}
