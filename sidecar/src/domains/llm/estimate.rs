//! Upper bounds of what a model reads, held against budgets before the call. The vendor's count is what is paid in the end.

use serde_json::{Map, Value};

use super::{content, fields::list};

/// No vendor's tokens are shorter on the average of a text in ASCII. Of other texts a token may be a single byte.
const BYTES_OF_TOKEN: u64 = 2;
/// For roles, separators and the like.
const OF_REQUEST: u64 = 32;
const OF_MESSAGE: u64 = 8;
/// The most that a vendor counts for one image. OpenAI's small models multiply it: `private.llm_attempt()` adds that for the target
/// that is called, whatever the caller names it.
const OF_IMAGE: u64 = 6_500;

/// Tokens of a chat request, every text that the model reads and its images, and how many images these are.
pub(super) fn chat(body: &Map<String, Value>) -> (u64, u64) {
    let mut bytes = 0;
    let mut images = 0;
    for message in list(body.get("messages")) {
        bytes += length(message) + BYTES_OF_TOKEN * OF_MESSAGE;
        for part in list(message.get("content")) {
            if let Some(url) = content::image_url(part).filter(|url| content::is_image(url)) {
                images += 1;
                bytes -= of_text(url);
            }
        }
    }
    for name in ["tools", "functions", "response_format", "tool_choice"] {
        bytes += body.get(name).map_or(0, length);
    }
    (tokens(bytes) + images * OF_IMAGE + OF_REQUEST, images)
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
    tokens(of_text(text)) + OF_REQUEST
}

fn tokens(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_OF_TOKEN)
}

/// Bytes of a value in JSON, names of members included. Bytes that are not ASCII count twice: as a token each.
fn length(value: &Value) -> u64 {
    match value {
        Value::String(text) => of_text(text) + 2,
        Value::Number(number) => number.to_string().len() as u64,
        Value::Array(items) => items.iter().map(|it| length(it) + 1).sum::<u64>() + 2,
        Value::Object(members) => {
            let members = members.iter();
            let lengths = members.map(|(name, it)| of_text(name) + length(it) + 4);
            lengths.sum::<u64>() + 2
        }
        Value::Null | Value::Bool(_) => 5,
    }
}

fn of_text(text: &str) -> u64 {
    let others = text.bytes().filter(|byte| !byte.is_ascii()).count();
    (text.len() + others) as u64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(body: Value) -> u64 {
        chat(body.as_object().unwrap()).0
    }

    #[test]
    fn texts_count_half_their_bytes_wherever_they_are() {
        let text = "x".repeat(10_000);
        for body in [
            json!({"messages": [{"role": "user", "content": text}]}),
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]}),
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": text, "image_url": null}]}]}),
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": text, "image_url": {"url": "https://example.com"}}]}]}),
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "text": text}]}]}),
            json!({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_data": text}}]}]}),
            json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": text}}]}]}),
            json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "type": "custom", "custom": {"name": "f", "input": text}}]}]}),
            json!({"messages": [{"role": "user", "content": "", "others": [{"type": "a", "b": text}]}]}),
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
    fn an_image_does_not_count_by_its_bytes() {
        let url = format!("data:image/png;base64,{}", "A".repeat(1 << 20));
        let image = json!({"type": "image_url", "image_url": {"url": url}});
        let body = json!({"messages": [{"role": "user", "content": [image, image]}]});
        let (tokens, images) = chat(body.as_object().unwrap());
        assert!((13_000..13_300).contains(&tokens));
        assert_eq!(images, 2);
    }

    #[test]
    fn bytes_that_are_no_image_count_whatever_they_are_called() {
        let url = format!("data:video/mp4;base64,{}", "A".repeat(100_000));
        let part = json!({"type": "image_url", "image_url": {"url": url}});
        let body = json!({"messages": [{"role": "user", "content": [part]}]});
        assert!(of(body) >= 50_000);
    }

    #[test]
    fn other_scripts_count_a_token_for_each_byte() {
        let body = json!({"messages": [{"role": "user", "content": "語".repeat(1_000)}]});
        assert!((3_000..3_200).contains(&of(body)));
        assert_eq!(embeddings(&json!("語")), 5);
        assert_eq!(text("語"), 3 + OF_REQUEST);
    }

    #[test]
    fn a_long_number_counts_its_digits() {
        let number: Value = serde_json::from_str(&"1".repeat(10_000)).unwrap();
        let body = json!({"messages": [], "tools": [{"function": {"parameters": number}}]});
        assert!(of(body) >= 5_000);
    }

    #[test]
    fn tokens_given_as_numbers_count_one_each() {
        assert_eq!(embeddings(&json!([[1, 2, 3], [4]])), 4);
        assert_eq!(embeddings(&json!(["abcd", "ef"])), 7);
    }
}
