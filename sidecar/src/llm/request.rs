//! A skill's parameters in each vendor's own words. They are OpenAI's names, since most people know those; what a vendor
//! has no word for is left out, and a field such as `messages`, `stream` or `tools` would change what we asked.

use genai::chat::{ChatOptions, ReasoningEffort};
use serde_json::{Map, Value, json};

use super::{CompletionRequest, vendor::Vendor};

/// What OpenAI and its likes take as it is.
const OPENAI: [&str; 10] = [
    "frequency_penalty",
    "logit_bias",
    "presence_penalty",
    "reasoning_effort",
    "response_format",
    "seed",
    "service_tier",
    "stop",
    "temperature",
    "top_p",
];

/// What Anthropic takes as it is.
const ANTHROPIC: [&str; 6] = [
    "output_config",
    "stop_sequences",
    "temperature",
    "thinking",
    "top_k",
    "top_p",
];

/// OpenAI's name, and Gemini's in `generationConfig`.
const GEMINI: [(&str, &str); 7] = [
    ("frequency_penalty", "frequencyPenalty"),
    ("presence_penalty", "presencePenalty"),
    ("seed", "seed"),
    ("temperature", "temperature"),
    ("thinking_config", "thinkingConfig"),
    ("top_k", "topK"),
    ("top_p", "topP"),
];

/// The options of one call.
pub(super) fn options(vendor: Vendor, request: &CompletionRequest) -> ChatOptions {
    let given = &request.parameters;
    let mut options = ChatOptions::default()
        .with_capture_usage(true)
        .with_extra_body(Value::Object(body(vendor, request)));
    // The client knows which models want it under another name; who says which one gets that.
    let named = vendor == Vendor::OpenAi && has(given, "max_completion_tokens");
    if vendor != Vendor::Gemini && !named {
        options = options.with_max_tokens(u32::try_from(request.max_tokens).unwrap_or(u32::MAX));
    }
    // Else the client would take "-high" at the end of a name for an effort; a budget is not sent to OpenAI.
    if vendor == Vendor::OpenAi {
        options = options.with_reasoning_effort(ReasoningEffort::Budget(0));
    }
    options
}

fn body(vendor: Vendor, request: &CompletionRequest) -> Map<String, Value> {
    let given = &request.parameters;
    let mut body = Map::new();
    let mut pass = |names: &[&str]| {
        for name in names {
            if let Some(value) = given.get(*name) {
                body.insert((*name).to_owned(), value.clone());
            }
        }
    };
    match vendor {
        Vendor::OpenAi => {
            pass(&OPENAI);
            if let Some(format) = given.get("response_format") {
                body.insert("response_format".to_owned(), openai_format(format));
            }
            if has(given, "max_completion_tokens") {
                body.insert(
                    "max_completion_tokens".to_owned(),
                    json!(request.max_tokens),
                );
            }
            body.insert("model".to_owned(), json!(request.model));
        }
        Vendor::Anthropic => {
            pass(&ANTHROPIC);
            if let Some(stop) = given.get("stop") {
                body.insert("stop_sequences".to_owned(), list(stop));
            }
            if let Some(schema) = given.get("response_format").and_then(schema) {
                body.insert(
                    "output_config".to_owned(),
                    json!({"format": {"type": "json_schema", "schema": schema}}),
                );
            }
            body.insert("model".to_owned(), json!(request.model));
        }
        Vendor::Gemini => {
            let mut config = generation_config(given);
            config.insert("maxOutputTokens".to_owned(), json!(request.max_tokens));
            body.insert("generationConfig".to_owned(), Value::Object(config));
            if let Some(settings) = given.get("safety_settings") {
                body.insert("safetySettings".to_owned(), settings.clone());
            }
        }
    }
    body
}

fn generation_config(given: &Map<String, Value>) -> Map<String, Value> {
    let mut config = Map::new();
    for (ours, theirs) in GEMINI {
        if let Some(value) = given.get(ours) {
            config.insert(theirs.to_owned(), value.clone());
        }
    }
    if let Some(stop) = given.get("stop") {
        config.insert("stopSequences".to_owned(), list(stop));
    }
    if let Some(format) = given.get("response_format")
        && super::is_json_format(format)
    {
        config.insert("responseMimeType".to_owned(), json!("application/json"));
        if let Some(schema) = schema(format) {
            config.insert("responseJsonSchema".to_owned(), schema);
        }
    }
    config
}

/// `"response_format": "json"` is short for what OpenAI calls `{"type": "json_object"}`.
fn openai_format(format: &Value) -> Value {
    match format.as_str() {
        Some("json") => json!({"type": "json_object"}),
        Some(kind) => json!({"type": kind}),
        None => format.clone(),
    }
}

fn has(given: &Map<String, Value>, name: &str) -> bool {
    given.get(name).is_some_and(|value| !value.is_null())
}

fn schema(format: &Value) -> Option<Value> {
    format.pointer("/json_schema/schema").cloned()
}

/// OpenAI takes one text or several, the others several.
fn list(stop: &Value) -> Value {
    if stop.is_array() {
        stop.clone()
    } else {
        json!([stop])
    }
}
