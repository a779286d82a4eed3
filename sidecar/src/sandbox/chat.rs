//! Prompts of several messages.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    plain,
    prompt::{Engine, PromptError},
    schema,
    template::{self, MAX_PROMPT_BYTES},
};

/// Messages that a placeholder may stand for.
const MAX_INSERTED: usize = 1_000;

/// One part of a chat prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Part {
    /// A message whose content is a template.
    Message(Message),
    /// A place for the messages of a variable.
    Placeholder {
        /// The variable.
        name: String,
    },
}

/// A message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` and the like.
    pub role: String,
    /// Its text.
    pub content: String,
}

/// A tenant's messages and schema, and one input.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChatRequest {
    /// The parts.
    pub parts: Vec<Part>,
    /// How contents are read.
    pub engine: Engine,
    /// The variables.
    pub input: Value,
    /// The JSON schema that the input must match; null or `{}` for any.
    pub schema: Value,
}

/// Checks the input, then renders each message. Together they are bounded as one prompt.
pub(super) fn render(request: &ChatRequest) -> Result<Vec<Message>, PromptError> {
    schema::check(&request.schema, &request.input)?;
    let mut messages = Vec::new();
    let mut bytes = 0;
    for part in &request.parts {
        match part {
            Part::Message(Message { role, content }) => {
                let content = match request.engine {
                    Engine::Minijinja => template::render(content, &request.input)?,
                    Engine::Plain => plain::render(content, &request.input)?,
                };
                bytes += content.len();
                messages.push(Message {
                    role: role.clone(),
                    content,
                });
            }
            Part::Placeholder { name } => {
                let inserted = inserted(name, &request.input)?;
                bytes += inserted.iter().map(|it| it.content.len()).sum::<usize>();
                messages.extend(inserted);
            }
        }
        if bytes > MAX_PROMPT_BYTES {
            return Err(PromptError::Template(format!(
                "the prompt is longer than {MAX_PROMPT_BYTES} bytes"
            )));
        }
    }
    Ok(messages)
}

fn inserted(name: &str, input: &Value) -> Result<Vec<Message>, PromptError> {
    let wrong = || {
        PromptError::InvalidInput(format!(
            "/{name}: must be a list of at most {MAX_INSERTED} messages, each with role and content"
        ))
    };
    let list = input
        .get(name)
        .and_then(Value::as_array)
        .ok_or_else(wrong)?;
    if list.len() > MAX_INSERTED {
        return Err(wrong());
    }
    list.iter()
        .map(|message| Message::deserialize(message).map_err(|_| wrong()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(engine: Engine, input: Value) -> ChatRequest {
        let parts = json!([
            {"role": "system", "content": "Be {{ tone }}."},
            {"type": "placeholder", "name": "history"},
            {"role": "user", "content": "{{ question }}"},
        ]);
        ChatRequest {
            parts: serde_json::from_value(parts).unwrap(),
            engine,
            input,
            schema: json!({"required": ["tone"]}),
        }
    }

    #[test]
    fn messages_are_rendered_and_placeholders_filled() {
        let input = json!({"tone": "kind", "question": "{{ tone }}?", "history": [{"role": "user", "content": "{{ x"}]});
        for engine in [Engine::Minijinja, Engine::Plain] {
            let messages = render(&request(engine, input.clone())).unwrap();
            assert_eq!(
                json!(messages),
                json!([
                    {"role": "system", "content": "Be kind."},
                    {"role": "user", "content": "{{ x"},
                    {"role": "user", "content": "{{ tone }}?"},
                ])
            );
        }
    }

    #[test]
    fn what_a_placeholder_lacks_is_the_inputs_fault() {
        for history in [
            json!(null),
            json!("x"),
            json!([1]),
            json!([{"role": "user"}]),
        ] {
            let input = json!({"tone": "kind", "question": "?", "history": history});
            assert!(matches!(
                render(&request(Engine::Plain, input)),
                Err(PromptError::InvalidInput(_))
            ));
        }
        let error = render(&request(Engine::Plain, json!({}))).unwrap_err();
        assert!(error.to_string().contains("tone"), "{error}");
    }
}
