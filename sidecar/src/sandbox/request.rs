//! What a child is asked, one line each. The answer is a `Result` whose error is [`PromptError`](super::PromptError).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    chat::ChatRequest,
    documents::{DocumentRequest, Item, RobotsRequest},
    mapping::MappingRequest,
    prompt::PromptRequest,
};

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
    /// A feed.
    Feed(DocumentRequest),
    /// A page.
    Page(DocumentRequest),
    /// What robots.txt says of an address.
    Robots(RobotsRequest),
    /// Items whose titles and texts are still markup.
    Items(Vec<Item>),
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
    Feed(&'a DocumentRequest),
    Page(&'a DocumentRequest),
    Robots(&'a RobotsRequest),
    Items(&'a [Item]),
}
