//! A request of chat completions, read and checked.

use serde_json::{Map, Value};

use super::{error::ApiError, estimate, fields};
use crate::llm::weight;

/// OpenAI's limit of `n`.
const MAX_CHOICES: u64 = 128;
const MAX_OUTPUT: u64 = 10_000_000;
/// The values of a request take so much memory: half a million numbers, or fifty thousand messages.
pub(super) const MAX_WEIGHT: usize = 48 << 20;
const ROLES: [&str; 6] = [
    "assistant",
    "developer",
    "function",
    "system",
    "tool",
    "user",
];

/// The request.
#[derive(Debug, Clone)]
pub(super) struct Chat {
    /// As it was sent, without what is null.
    pub body: Map<String, Value>,
    pub model: String,
    pub stream: bool,
    /// Whether the caller wants the chunk with usage.
    pub include_usage: bool,
    pub choices: u64,
    /// The longest answer that was asked for, of each choice.
    pub max_output: Option<u64>,
    /// Upper bound of what the model reads.
    pub input_tokens: u64,
    /// Images among it.
    pub images: u64,
    /// Names of fields outside the list of the platform's keys.
    pub unlisted: Vec<String>,
}

impl Chat {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, ApiError> {
        let body = object(bytes)?;
        check_messages(&body)?;
        let stream = flag(&body, "stream")?;
        let options = body.get("stream_options");
        if options.is_some() && !stream {
            return Err(ApiError::invalid(
                "stream_options",
                "stream_options are for streams",
            ));
        }
        let (input_tokens, images) = estimate::chat(&body);
        let include_usage = options.and_then(|it| it.get("include_usage"));
        Ok(Self {
            model: model(&body)?,
            stream,
            include_usage: include_usage.and_then(Value::as_bool).unwrap_or(false),
            choices: number(&body, "n", MAX_CHOICES)?.unwrap_or(1),
            max_output: number(&body, "max_completion_tokens", MAX_OUTPUT)?.max(number(
                &body,
                "max_tokens",
                MAX_OUTPUT,
            )?),
            input_tokens,
            images,
            unlisted: fields::unlisted_in_chat(&body),
            body,
        })
    }

    pub(super) fn messages(&self) -> &[Value] {
        fields::list(self.body.get("messages"))
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.body.get(name)
    }
}

/// A JSON object, without members that are null: they mean what is absent means.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    if weight(bytes) > MAX_WEIGHT {
        let message = "the request has too many values: at most half a million numbers";
        return Err(ApiError::new(400, "bad_request", message));
    }
    let body: Map<String, Value> = serde_json::from_slice(bytes)
        .map_err(|_| ApiError::new(400, "bad_request", "the body is no JSON object"))?;
    Ok(body.into_iter().filter(|(_, it)| !it.is_null()).collect())
}

/// The name of the model.
pub(super) fn model(body: &Map<String, Value>) -> Result<String, ApiError> {
    let model = body.get("model").and_then(Value::as_str);
    let model = model.filter(|model| (1..=200).contains(&model.len()));
    model
        .map(str::to_owned)
        .ok_or_else(|| ApiError::invalid("model", "model is the name of a model or a route"))
}

/// A whole number from 1.
pub(super) fn number(
    body: &Map<String, Value>,
    name: &'static str,
    most: u64,
) -> Result<Option<u64>, ApiError> {
    let Some(value) = body.get(name) else {
        return Ok(None);
    };
    let whole = value.as_f64().filter(|number| number.fract() == 0.0);
    let number = value.as_u64().or(whole.map(|number| number as u64));
    match number.filter(|number| (1..=most).contains(number)) {
        Some(number) => Ok(Some(number)),
        None => Err(ApiError::invalid(
            name,
            format!("{name} is a whole number from 1 to {most}"),
        )),
    }
}

fn flag(body: &Map<String, Value>, name: &'static str) -> Result<bool, ApiError> {
    match body.get(name) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(ApiError::invalid(name, format!("{name} is true or false"))),
    }
}

fn check_messages(body: &Map<String, Value>) -> Result<(), ApiError> {
    let messages = fields::list(body.get("messages"));
    if messages.is_empty() {
        return Err(ApiError::invalid(
            "messages",
            "messages is a list of at least one message",
        ));
    }
    let has_role = |message: &Value| {
        let role = message.get("role").and_then(Value::as_str);
        role.is_some_and(|role| ROLES.contains(&role))
    };
    match messages.iter().all(has_role) {
        true => Ok(()),
        false => Err(ApiError::invalid(
            "messages",
            format!("the role of a message is one of {}", ROLES.join(", ")),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(more: Value) -> Result<Chat, ApiError> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        let object = body.as_object_mut().unwrap();
        object.extend(more.as_object().unwrap().clone());
        Chat::read(body.to_string().as_bytes())
    }

    #[test]
    fn what_the_official_clients_send() {
        let chat = read(
            json!({"stream": true, "stream_options": {"include_usage": true}, "n": 2, "max_tokens": 5, "stop": null}),
        );
        let chat = chat.unwrap();
        assert!(chat.stream && chat.include_usage && chat.get("stop").is_none());
        assert_eq!((chat.choices, chat.max_output), (2, Some(5)));
        let chat = read(json!({"stream": false})).unwrap();
        assert!(!chat.stream && !chat.include_usage);
        assert_eq!((chat.choices, chat.max_output), (1, None));
        let both = read(json!({"max_tokens": 5, "max_completion_tokens": 7.0})).unwrap();
        assert_eq!(both.max_output, Some(7));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (more, param) in [
            (json!({"model": ""}), "model"),
            (json!({"model": null}), "model"),
            (json!({"messages": []}), "messages"),
            (json!({"messages": [{"content": "hi"}]}), "messages"),
            (json!({"messages": [{"role": "root"}]}), "messages"),
            (json!({"n": 0}), "n"),
            (json!({"n": 129}), "n"),
            (json!({"max_tokens": "5"}), "max_tokens"),
            (
                json!({"max_completion_tokens": -1}),
                "max_completion_tokens",
            ),
            (json!({"max_tokens": 1.5}), "max_tokens"),
            (json!({"stream": "yes"}), "stream"),
            (
                json!({"stream_options": {"include_usage": true}}),
                "stream_options",
            ),
        ] {
            let error = read(more.clone()).unwrap_err();
            assert_eq!(
                (error.status.as_u16(), error.param),
                (400, Some(param)),
                "{more}"
            );
        }
        let zeros = format!(r#"{{"model":"m","input":[{}0]}}"#, "0,".repeat(10_000_000));
        let error = object(zeros.as_bytes()).unwrap_err();
        assert!(error.message.contains("too many values"));
        let tokens = format!(r#"{{"model":"m","input":[{}0]}}"#, "0,".repeat(400_000));
        assert!(object(tokens.as_bytes()).is_ok());
        for bad in ["", "[]", "7", "{"] {
            assert_eq!(Chat::read(bad.as_bytes()).unwrap_err().status, 400);
        }
    }
}
