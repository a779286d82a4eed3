//! `POST /llm/v1/prompts/{path}/call`: a stored prompt and its variables become a request of chat completions, which goes the way of
//! every other one.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use kijko_core::{error::Error, telemetry::canonical};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    chat::{self, Chat},
    error::ApiError,
    gateway::Gateway,
    request::Request,
    room::Room,
};
use crate::{
    llm::weight,
    rendering::{Prompt, RenderError},
    sandbox::PromptError,
};

const PATH: HeaderName = HeaderName::from_static("x-prompt-path");
const VERSION: HeaderName = HeaderName::from_static("x-prompt-version");

/// A request, read.
#[derive(Debug)]
pub(super) struct PromptCall {
    /// Of `get_prompt`.
    named: Value,
    variables: Value,
    /// What the caller says instead of the prompt: a model, parameters, `stream`.
    more: Map<String, Value>,
}

/// The version that was called.
#[derive(Debug)]
pub(super) struct Called {
    pub version_id: Uuid,
    path: String,
    version: i32,
    labels: Vec<String>,
}

impl PromptCall {
    pub(super) fn read(path: &str, bytes: &[u8]) -> Result<Self, ApiError> {
        let mut more = match bytes.is_empty() {
            true => Map::new(),
            false => chat::object(bytes)?,
        };
        let variables = more.remove("variables").unwrap_or_else(|| json!({}));
        if !variables.is_object() {
            return Err(ApiError::invalid("variables", "variables is an object"));
        }
        let label = more.remove("label");
        if label.as_ref().is_some_and(|it| !it.is_string()) {
            return Err(ApiError::invalid("label", "label is the name of a label"));
        }
        let version = more.remove("version");
        if version
            .as_ref()
            .is_some_and(|it| it.as_i64().and_then(|n| i32::try_from(n).ok()).is_none())
        {
            return Err(ApiError::invalid("version", "version is a number"));
        }
        if more.contains_key("messages") {
            let message = "the prompt has the messages; a placeholder of it takes more of them";
            return Err(ApiError::invalid("messages", message));
        }
        Ok(Self {
            named: json!({"path": path, "label": label, "version": version}),
            variables,
            more,
        })
    }

    /// Asks for the prompt as the caller, and renders it.
    pub(super) async fn render(
        self,
        gateway: &Gateway,
        organization: Uuid,
        headers: &HeaderMap,
        room: &mut Room,
    ) -> Result<(Request, Called), ApiError> {
        let prompt = gateway.ask::<Prompt>("get_prompt", headers, &self.named);
        let (prompt, _) = prompt.await?;
        canonical::add("prompt", prompt.path.as_str());
        canonical::add("prompt_version", prompt.version);
        let rendered = gateway
            .renderer
            .render(
                organization,
                &prompt.content,
                prompt.engine,
                &prompt.input_schema,
                &self.variables,
            )
            .await
            .map_err(refuse)?;
        let body = body(&prompt, self.more, json!(rendered.into_messages()))?;
        let body = Value::Object(body).to_string();
        room.grow(weight(body.as_bytes()).min(chat::MAX_WEIGHT))
            .await?;
        let called = Called {
            version_id: prompt.version_id,
            path: prompt.path,
            version: prompt.version,
            labels: prompt.labels,
        };
        Ok((Request::Chat(Chat::read(body.as_bytes())?), called))
    }
}

impl Called {
    pub(super) fn to_json(&self) -> Value {
        json!({"path": self.path, "version": self.version, "labels": self.labels})
    }

    /// A stream has no place for it but its head.
    pub(super) fn describe(&self, headers: &mut HeaderMap) {
        if let Ok(path) = HeaderValue::from_str(&self.path) {
            headers.insert(PATH, path);
        }
        headers.insert(VERSION, self.version.into());
    }
}

/// What the caller says comes before what the prompt says.
fn body(
    prompt: &Prompt,
    more: Map<String, Value>,
    messages: Value,
) -> Result<Map<String, Value>, ApiError> {
    let mut body = prompt.parameters.clone();
    if let Some(model) = &prompt.model {
        body.insert("model".to_owned(), json!(model));
    }
    // Whether the answer comes as a stream is the caller's alone to say.
    body.remove("stream");
    body.remove("stream_options");
    body.extend(more);
    if !body.contains_key("model") {
        let message = "the prompt names no model, so the call must";
        return Err(ApiError::invalid("model", message));
    }
    body.insert("messages".to_owned(), messages);
    Ok(body)
}

fn refuse(error: RenderError) -> ApiError {
    match error {
        RenderError::Crowded => ApiError::crowded("renderings"),
        RenderError::Refused(PromptError::Sandbox(cause)) => Error::Internal { cause }.into(),
        RenderError::Refused(error) => {
            let mut refusal = ApiError::new(400, error.code(), error.to_string());
            if matches!(error, PromptError::InvalidInput(_)) {
                refusal.param = Some("variables");
            }
            refusal
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(model: Option<&str>) -> Prompt {
        let prompt = json!({
            "version_id": Uuid::nil(), "path": "a/b", "version": 3, "labels": ["production"], "content": "hi", "engine": "plain",
            "input_schema": {}, "model": model, "parameters": {"temperature": 0, "max_tokens": 5, "stream": true},
        });
        serde_json::from_value(prompt).unwrap()
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, param) in [
            (r#"{"variables": []}"#, "variables"),
            (r#"{"label": 1}"#, "label"),
            (r#"{"version": "1"}"#, "version"),
            (r#"{"version": 1.5}"#, "version"),
            (r#"{"version": 99999999999}"#, "version"),
            (r#"{"messages": []}"#, "messages"),
        ] {
            let error = PromptCall::read("a", body.as_bytes()).unwrap_err();
            assert_eq!((error.status.as_u16(), error.param), (400, Some(param)));
        }
        let call = PromptCall::read("a/b", b"").unwrap();
        assert_eq!(
            call.named,
            json!({"path": "a/b", "label": null, "version": null})
        );
        assert_eq!(call.variables, json!({}));
    }

    #[test]
    fn the_caller_overrides_the_prompt() {
        let more = |value: Value| value.as_object().unwrap().clone();
        let made = body(
            &prompt(Some("m/a")),
            more(json!({"temperature": 1})),
            json!([]),
        );
        assert_eq!(
            Value::Object(made.unwrap()),
            json!({"model": "m/a", "temperature": 1, "max_tokens": 5, "messages": []})
        );
        let made = body(
            &prompt(None),
            more(json!({"model": "m/b", "stream": true})),
            json!([]),
        );
        let made = made.unwrap();
        assert_eq!(
            (&made["model"], &made["stream"]),
            (&json!("m/b"), &json!(true))
        );
        let error = body(&prompt(None), Map::new(), json!([])).unwrap_err();
        assert_eq!(error.param, Some("model"));
    }
}
