//! Stored prompts, and their rendering for somebody who waits.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    problems::Problem,
    sandbox::{ChatRequest, Engine, Message, Part, PromptError, PromptRequest, Sandbox},
    turns::Turns,
};

/// What a prompt says: one text or several messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Content {
    /// A template.
    Text(String),
    /// Templates with their roles, and placeholders.
    Chat(Vec<Part>),
}

impl Content {
    /// Its templates.
    pub(crate) fn templates(&self) -> Vec<&str> {
        match self {
            Self::Text(text) => vec![text],
            Self::Chat(parts) => parts
                .iter()
                .filter_map(|part| match part {
                    Part::Message(message) => Some(message.content.as_str()),
                    Part::Placeholder { .. } => None,
                })
                .collect(),
        }
    }

    /// The variables of its placeholders.
    pub(crate) fn placeholders(&self) -> Vec<&str> {
        match self {
            Self::Text(_) => Vec::new(),
            Self::Chat(parts) => parts
                .iter()
                .filter_map(|part| match part {
                    Part::Message(_) => None,
                    Part::Placeholder { name } => Some(name.as_str()),
                })
                .collect(),
        }
    }
}

/// A version of a prompt, as `get_prompt` answers it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Prompt {
    pub version_id: Uuid,
    pub path: String,
    pub version: i32,
    pub labels: Vec<String>,
    pub content: Content,
    pub engine: Engine,
    pub input_schema: Value,
    pub model: Option<String>,
    pub parameters: Map<String, Value>,
    #[serde(default)]
    pub problems: Vec<Problem>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Rendered {
    /// Of a text prompt.
    Prompt(String),
    /// Of a chat prompt.
    Messages(Vec<Message>),
}

impl Rendered {
    /// What a model is sent: a text is the user's message.
    pub(crate) fn into_messages(self) -> Vec<Message> {
        match self {
            Self::Prompt(content) => vec![Message {
                role: "user".to_owned(),
                content,
            }],
            Self::Messages(messages) => messages,
        }
    }
}

/// Why nothing was rendered.
#[derive(Debug)]
pub(crate) enum RenderError {
    /// The template, the schema or the variables.
    Refused(PromptError),
    /// Too many at once.
    Crowded,
}

/// Renders, one at a time of an organization.
#[derive(Debug)]
pub(crate) struct Renderer {
    pub(crate) sandbox: Sandbox,
    turns: Turns,
}

impl Renderer {
    /// Of an organization so many wait.
    pub(crate) fn new(max_waiting: usize) -> Result<Self, String> {
        let sandbox =
            Sandbox::of_this_program().map_err(|error| format!("the sandbox: {error}"))?;
        Ok(Self {
            sandbox,
            turns: Turns::new(max_waiting),
        })
    }

    /// Renders a prompt of an organization with these variables.
    pub(crate) async fn render(
        &self,
        organization: Uuid,
        content: &Content,
        engine: Engine,
        schema: &Value,
        variables: &Value,
    ) -> Result<Rendered, RenderError> {
        let (schema, input) = (schema.clone(), variables.clone());
        self.in_turn(organization, async {
            match content {
                Content::Text(template) => {
                    let request = PromptRequest {
                        template: template.clone(),
                        engine,
                        input,
                        schema,
                    };
                    self.sandbox
                        .make_prompt(&request)
                        .await
                        .map(Rendered::Prompt)
                }
                Content::Chat(parts) => {
                    let request = ChatRequest {
                        parts: parts.clone(),
                        engine,
                        input,
                        schema,
                    };
                    self.sandbox
                        .make_messages(&request)
                        .await
                        .map(Rendered::Messages)
                }
            }
        })
        .await
    }

    /// Does something with the sandbox when it is the organization's turn.
    pub(crate) async fn in_turn<T>(
        &self,
        organization: Uuid,
        work: impl Future<Output = Result<T, PromptError>>,
    ) -> Result<T, RenderError> {
        let done = self.turns.run(organization, work).await;
        done.ok_or(RenderError::Crowded)?
            .map_err(RenderError::Refused)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_prompt_is_a_text_or_messages() {
        let text: Content = serde_json::from_value(json!("{{ a }}")).unwrap();
        assert_eq!(
            (text.templates(), text.placeholders()),
            (vec!["{{ a }}"], vec![])
        );
        let chat = json!([
            {"role": "system", "content": "x"},
            {"type": "placeholder", "name": "history"},
        ]);
        let chat: Content = serde_json::from_value(chat).unwrap();
        assert_eq!(
            (chat.templates(), chat.placeholders()),
            (vec!["x"], vec!["history"])
        );
        assert!(serde_json::from_value::<Content>(json!({})).is_err());
    }

    #[test]
    fn a_text_is_the_users_message() {
        let messages = Rendered::Prompt("hi".to_owned()).into_messages();
        assert_eq!(json!(messages), json!([{"role": "user", "content": "hi"}]));
    }
}
