//! Upper bounds of what a model reads, held against budgets before the call. The vendor's count is what is paid in the end.

use serde_json::{Map, Value};

use super::fields::list;

/// No vendor's tokens are shorter on the average of a text.
const BYTES_OF_TOKEN: u64 = 2;
/// For roles, separators and the like.
const OF_REQUEST: u64 = 32;
/// The most that a vendor counts for one image, and what OpenAI's small models count, which multiply it.
const OF_IMAGE: u64 = 6_500;
const OF_IMAGE_SMALL_MODEL: u64 = 50_000;

/// Tokens of a chat request: every text that the model reads, and its images at the model's maximum.
pub(super) fn chat(body: &Map<String, Value>) -> u64 {
    let model = body.get("model").and_then(Value::as_str).unwrap_or("");
    let of_image = match model.contains("mini") || model.contains("nano") {
        true => OF_IMAGE_SMALL_MODEL,
        false => OF_IMAGE,
    };
    let mut bytes = 0;
    let mut images = 0;
    for message in list(body.get("messages")) {
        for part in list(message.get("content")) {
            match part.get("image_url") {
                Some(_) => images += 1,
                None => bytes += length(part),
            }
        }
        if let Some(members) = message.as_object() {
            let others = members.iter().filter(|(_, value)| !is_parts(value));
            bytes += others.map(|(_, value)| length(value)).sum::<u64>();
        }
        bytes += BYTES_OF_TOKEN * 8;
    }
    for name in ["tools", "functions", "response_format", "tool_choice"] {
        bytes += body.get(name).map_or(0, length);
    }
    tokens(bytes) + images * of_image + OF_REQUEST
}

/// Tokens of an input of embeddings: texts, or tokens themselves.
pub(super) fn embeddings(input: &Value) -> u64 {
    match input {
        Value::Number(_) => 1,
        Value::Array(items) => items.iter().map(embeddings).sum(),
        other => tokens(length(other)) + 1,
    }
}

/// Tokens of a prompt of images.
pub(super) fn text(text: &str) -> u64 {
    tokens(text.len() as u64) + OF_REQUEST
}

/// Content that is a list of parts is counted part by part.
fn is_parts(value: &Value) -> bool {
    value.is_array()
        && value.get(0).is_some_and(|part| part.get("type").is_some())
        && value
            .get(0)
            .is_some_and(|part| part.get("function").is_none())
}

fn tokens(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_OF_TOKEN)
}

/// Bytes of all texts within, names of members included.
fn length(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64,
        Value::Array(items) => items.iter().map(|it| length(it) + 1).sum(),
        Value::Object(members) => {
            let lengths = members.iter();
            lengths
                .map(|(name, it)| name.len() as u64 + length(it) + 2)
                .sum()
        }
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(body: Value) -> u64 {
        chat(body.as_object().unwrap())
    }

    #[test]
    fn texts_count_half_their_bytes_wherever_they_are() {
        let text = "x".repeat(10_000);
        for body in [
            json!({"messages": [{"role": "user", "content": text}]}),
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]}),
            json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": text}}]}]}),
            json!({"messages": [], "tools": [{"type": "function", "function": {"description": text}}]}),
            json!({"messages": [], "response_format": {"json_schema": {"schema": {"title": text}}}}),
        ] {
            let tokens = of(body.clone());
            assert!(
                (5_000..5_200).contains(&tokens),
                "{tokens}: {}",
                body.to_string().len()
            );
        }
    }

    #[test]
    fn an_image_counts_by_its_model_and_not_by_its_bytes() {
        let body = |model: &str| {
            json!({"model": model, "messages": [{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{}", "A".repeat(1 << 20))}},
            ]}]})
        };
        assert!((6_500..6_700).contains(&of(body("gpt-4o"))));
        assert!(of(body("gpt-4o-mini")) >= 50_000);
    }

    #[test]
    fn tokens_given_as_numbers_count_one_each() {
        assert_eq!(embeddings(&json!([[1, 2, 3], [4]])), 4);
        assert_eq!(embeddings(&json!(["abcd", "ef"])), 5);
    }
}
