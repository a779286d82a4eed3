//! What a child is asked, one line each. The answer is a `Result` whose error is [`PromptError`](super::PromptError).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{chat::ChatRequest, mapping::MappingRequest, prompt::PromptRequest};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    Prompt(PromptRequest),
    Chat(ChatRequest),
    Map(MappingRequest),
    /// Whether this is a template.
    Template(String),
    /// The variables of a plain template.
    Plain(String),
    /// Whether this is a JSON schema.
    Schema(Value),
}

/// The same, borrowed by who asks.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RequestRef<'a> {
    Prompt(&'a PromptRequest),
    Chat(&'a ChatRequest),
    Map(&'a MappingRequest),
    Template(&'a str),
    Plain(&'a str),
    Schema(&'a Value),
}
