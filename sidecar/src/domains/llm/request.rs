//! A request of any kind, read and checked.

use axum::http::HeaderMap;
use kijko_core::telemetry::traces::TraceId;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{chat::Chat, embeddings::Embeddings, error::ApiError, images::Images};

/// The request.
pub(super) enum Request {
    Chat(Chat),
    Embeddings(Embeddings),
    Images(Images),
}

impl Request {
    /// The name of the kind, in `llm_calls` and metrics.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Chat(_) => "chat",
            Self::Embeddings(_) => "embeddings",
            Self::Images(_) => "images",
        }
    }

    pub(super) fn model(&self) -> &str {
        match self {
            Self::Chat(chat) => &chat.model,
            Self::Embeddings(embeddings) => &embeddings.model,
            Self::Images(images) => &images.model,
        }
    }

    /// What is kept of it, where that is wanted.
    pub(super) fn prompt(&self) -> Value {
        match self {
            Self::Chat(chat) => json!(chat.messages()),
            Self::Embeddings(embeddings) => embeddings.input().clone(),
            Self::Images(images) => images.prompt().clone(),
        }
    }

    /// The arguments of `authorize_llm_call`.
    pub(super) fn arguments(&self, headers: &HeaderMap, trace: TraceId) -> Result<Value, ApiError> {
        let (input_tokens, unlisted) = match self {
            Self::Chat(chat) => (chat.input_tokens, &chat.unlisted),
            Self::Embeddings(embeddings) => (embeddings.input_tokens, &embeddings.unlisted),
            Self::Images(images) => (images.input_tokens, &images.unlisted),
        };
        let mut arguments = json!({
            "model": self.model(),
            "kind": self.kind(),
            "input_tokens": input_tokens,
            "fields": unlisted,
        });
        let mut set = |name: &str, value: Value| arguments[name] = value;
        match self {
            Self::Chat(chat) => {
                set("images", json!(chat.images));
                set("choices", json!(chat.choices));
                if let Some(limit) = chat.max_output {
                    set("max_output_tokens", json!(limit));
                }
            }
            Self::Embeddings(_) => {}
            Self::Images(images) => set("images", json!(images.count)),
        }
        for (header, argument) in [("openai-project", "project_id"), ("x-skill-id", "skill_id")] {
            if let Some(id) = id(headers, header)? {
                set(argument, json!(id));
            }
        }
        set("trace_id", json!(trace.to_string()));
        Ok(arguments)
    }
}

fn id(headers: &HeaderMap, name: &'static str) -> Result<Option<Uuid>, ApiError> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let id = value.to_str().ok().and_then(|value| value.parse().ok());
    match id {
        Some(id) => Ok(Some(id)),
        None => Err(ApiError::invalid(name, format!("{name} is a UUID"))),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::span::Place, *};

    #[test]
    fn headers_name_project_skill_and_trace() {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "n": 2, "max_tokens": 5});
        let chat = Request::Chat(Chat::read(body.to_string().as_bytes()).unwrap());
        let project = "0193a5a8-0000-7000-8000-000000000000";
        let mut headers = HeaderMap::new();
        headers.insert("openai-project", project.parse().unwrap());
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parent = format!("00-{trace}-00f067aa0ba902b7-01");
        headers.insert("traceparent", parent.parse().unwrap());
        let arguments = chat.arguments(&headers, Place::of(&headers).trace).unwrap();
        assert_eq!(arguments["project_id"], project);
        assert_eq!(arguments["trace_id"], trace);
        assert_eq!(
            (&arguments["choices"], &arguments["max_output_tokens"]),
            (&json!(2), &json!(5))
        );
        assert_eq!(arguments["kind"], "chat");
        headers.insert("openai-project", "proj_abc".parse().unwrap());
        assert_eq!(
            chat.arguments(&headers, TraceId::random())
                .unwrap_err()
                .status,
            400
        );
    }
}
