//! The body for OpenAI and for servers that speak its API. Most of it is passed on as it came.

use serde_json::{Map, Value, json};

use super::chat::Chat;
use crate::llm::counts_reasoning;

/// `is_openai`: the server is OpenAI's own, which knows the role `developer`. Others know `system`.
pub(super) fn body(
    chat: &Chat,
    model: &str,
    max_output: u64,
    is_openai: bool,
) -> Map<String, Value> {
    let mut body = chat.body.clone();
    let limit = match body.contains_key("max_completion_tokens") || counts_reasoning(model) {
        true => "max_completion_tokens",
        false => "max_tokens",
    };
    for name in ["max_tokens", "max_completion_tokens"] {
        body.remove(name);
    }
    body.insert(limit.to_owned(), json!(max_output));
    body.insert("model".to_owned(), json!(model));
    if chat.stream {
        let options = body
            .entry("stream_options")
            .or_insert_with(|| json!({}))
            .as_object_mut();
        if let Some(options) = options {
            options.insert("include_usage".to_owned(), json!(true));
        }
    }
    if !is_openai {
        system_instead_of_developer(&mut body);
    }
    body
}

fn system_instead_of_developer(body: &mut Map<String, Value>) {
    let messages = body.get_mut("messages").and_then(Value::as_array_mut);
    for message in messages.into_iter().flatten() {
        if message["role"] == "developer" {
            message["role"] = json!("system");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(more: Value) -> Chat {
        let mut body = json!({"model": "alias", "messages": [{"role": "developer", "content": "be brief"}, {"role": "user", "content": "hi"}]});
        let object = body.as_object_mut().unwrap();
        object.extend(more.as_object().unwrap().clone());
        Chat::read(body.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn usage_is_always_asked_of_a_stream() {
        for options in [
            json!({}),
            json!({"stream_options": {"include_usage": false}}),
        ] {
            let mut options = options;
            options["stream"] = json!(true);
            let body = body(&chat(options), "gpt-4o", 9, true);
            assert_eq!(body["stream_options"], json!({"include_usage": true}));
        }
        let body = body(&chat(json!({})), "gpt-4o", 9, true);
        assert!(!body.contains_key("stream_options"));
    }

    #[test]
    fn the_limit_has_the_name_that_the_model_takes_and_is_always_sent() {
        for (model, given, name) in [
            ("gpt-4o", json!({}), "max_tokens"),
            (
                "gpt-5-mini",
                json!({"max_tokens": 5}),
                "max_completion_tokens",
            ),
            (
                "llama3",
                json!({"max_completion_tokens": 5}),
                "max_completion_tokens",
            ),
        ] {
            let body = body(&chat(given), model, 9, true);
            assert_eq!((&body[name], &body["model"]), (&json!(9), &json!(model)));
            let limits = body.keys().filter(|name| name.starts_with("max_"));
            assert_eq!(limits.count(), 1);
        }
    }

    #[test]
    fn only_openai_itself_gets_the_role_developer() {
        let role =
            |is_openai| body(&chat(json!({})), "m", 9, is_openai)["messages"][0]["role"].clone();
        assert_eq!(
            (role(true), role(false)),
            (json!("developer"), json!("system"))
        );
    }

    #[test]
    fn all_else_is_as_it_came() {
        let more = json!({"tools": [{"type": "function", "function": {"name": "f"}}], "logit_bias": {"50256": -100}, "service_tier": "flex"});
        let body = body(&chat(more.clone()), "gpt-4o", 9, true);
        for (name, value) in more.as_object().unwrap() {
            assert_eq!(&body[name], value);
        }
    }
}
