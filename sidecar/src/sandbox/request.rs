//! What a child is asked, one line each. The answer is a `Result` whose error is [`PromptError`](super::PromptError).

use serde::{Deserialize, Serialize};

use super::{mapping::MappingRequest, prompt::PromptRequest};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    Prompt(PromptRequest),
    Map(MappingRequest),
}

/// The same, borrowed by who asks.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RequestRef<'a> {
    Prompt(&'a PromptRequest),
    Map(&'a MappingRequest),
}
