//! Fields of a request that are passed on with the platform's keys. Others can change the price, the vendor or whose data is read
//! (`service_tier`, `store`, hosted tools, ids of files), so they pass on an organization's own keys only.

use serde_json::{Map, Value};

use super::content;

const CHAT: [&str; 26] = [
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "model",
    "n",
    "parallel_tool_calls",
    "presence_penalty",
    "prompt_cache_key",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
];
const EMBEDDINGS: [&str; 5] = ["dimensions", "encoding_format", "input", "model", "user"];
const IMAGES: [&str; 11] = [
    "background",
    "model",
    "moderation",
    "n",
    "output_compression",
    "output_format",
    "prompt",
    "response_format",
    "size",
    "style",
    "user",
];
/// Of `verbosity` and the like, which OpenAI's newer models take: they cost nothing by themselves.
const CHAT_ALSO: [&str; 1] = ["verbosity"];

/// Parts of messages that need nothing of the vendor's account, and whose tokens are bounded before the call: no files.
const PARTS: [&str; 3] = ["text", "image_url", "refusal"];

/// Names of fields of a chat request that are not listed, nested ones with a dot.
pub(super) fn unlisted_in_chat(body: &Map<String, Value>) -> Vec<String> {
    let mut found: Vec<String> = body
        .iter()
        .filter(|(name, value)| !value.is_null() && !is_of_chat(name))
        .map(|(name, _)| name.clone())
        .collect();
    for tool in list(body.get("tools")) {
        match tool.get("type").and_then(Value::as_str) {
            Some("function") => {}
            kind => found.push(format!("tools.{}", kind.unwrap_or("unknown"))),
        }
    }
    for message in list(body.get("messages")) {
        if message.get("audio").is_some_and(|it| !it.is_null()) {
            found.push("messages.audio".to_owned());
        }
        if message.get("content").is_some_and(Value::is_object) {
            found.push("messages.content".to_owned());
        }
        for part in list(message.get("content")) {
            let kind = part
                .get("type")
                .and_then(Value::as_str)
                .unwrap_or("unknown");
            if !PARTS.contains(&kind) {
                found.push(format!("messages.{kind}"));
            } else if kind == "image_url"
                && !content::image_url(part).is_some_and(content::is_image)
            {
                found.push("messages.image_url.url".to_owned());
            }
        }
        for call in list(message.get("tool_calls")) {
            match call.get("type").and_then(Value::as_str) {
                Some("function") => {}
                kind => found.push(format!("tool_calls.{}", kind.unwrap_or("unknown"))),
            }
        }
    }
    bounded(found)
}

pub(super) fn unlisted_in_embeddings(body: &Map<String, Value>) -> Vec<String> {
    unlisted(body, &EMBEDDINGS)
}

pub(super) fn unlisted_in_images(body: &Map<String, Value>) -> Vec<String> {
    unlisted(body, &IMAGES)
}

fn is_of_chat(name: &str) -> bool {
    CHAT.contains(&name) || CHAT_ALSO.contains(&name)
}

fn unlisted(body: &Map<String, Value>, listed: &[&str]) -> Vec<String> {
    let others = body.iter().filter(|(_, value)| !value.is_null());
    let others = others.filter(|(name, _)| !listed.contains(&name.as_str()));
    bounded(others.map(|(name, _)| name.clone()).collect())
}

/// Each once, and no more of them than an error can name.
fn bounded(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names.dedup();
    names.truncate(20);
    for name in &mut names {
        *name = name.chars().take(60).collect();
    }
    names
}

pub(super) fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_may_change_price_vendor_or_account_is_unlisted() {
        for (more, name) in [
            (json!({"service_tier": "flex"}), "service_tier"),
            (json!({"store": true}), "store"),
            (json!({"web_search_options": {}}), "web_search_options"),
            (json!({"modalities": ["audio"]}), "modalities"),
            (
                json!({"tools": [{"type": "web_search"}]}),
                "tools.web_search",
            ),
            (json!({"tools": [{}]}), "tools.unknown"),
            (
                json!({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}]}]}),
                "messages.file",
            ),
            (
                json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:video/mp4;base64,AAAA"}}]}]}),
                "messages.image_url.url",
            ),
            (
                json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": null}]}]}),
                "messages.image_url.url",
            ),
            (
                json!({"messages": [{"role": "assistant", "tool_calls": [{"type": "custom", "custom": {}}]}]}),
                "tool_calls.custom",
            ),
            (
                json!({"messages": [{"role": "user", "content": {"type": "file"}}]}),
                "messages.content",
            ),
            (
                json!({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}),
                "messages.input_audio",
            ),
            (
                json!({"messages": [{"role": "assistant", "audio": {"id": "a"}}]}),
                "messages.audio",
            ),
        ] {
            assert_eq!(unlisted_in_chat(more.as_object().unwrap()), [name]);
        }
    }

    #[test]
    fn what_everybody_sends_is_listed_and_null_is_absent() {
        let body = json!({
            "model": "m", "stream": true, "stream_options": {"include_usage": true}, "store": null, "temperature": 1,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]}],
            "tools": [{"type": "function", "function": {"name": "f"}}],
        });
        assert!(unlisted_in_chat(body.as_object().unwrap()).is_empty());
        let body = json!({"model": "m", "input": "a", "encoding_format": "base64"});
        assert!(unlisted_in_embeddings(body.as_object().unwrap()).is_empty());
        let body = json!({"model": "m", "prompt": "a", "quality": "hd"});
        assert_eq!(unlisted_in_images(body.as_object().unwrap()), ["quality"]);
    }
}
