//! The body of each vendor's request. Parameters of a skill have OpenAI's names, since most people know those. A parameter that a
//! vendor does not support is dropped; `messages`, `stream`, `tools` and the like are never passed on, since they would change
//! the question.

use serde_json::{Map, Value, json};

use super::{
    parameters::is_json_format,
    provider::CompletionRequest,
    vendor::{Vendor, counts_reasoning},
};

/// Parameters that OpenAI and compatible services take as they are.
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

/// Parameters that Anthropic takes as they are.
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

/// One message of a user, and the parameters.
pub(super) fn body(vendor: Vendor, request: &CompletionRequest) -> Map<String, Value> {
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
            let limit =
                match has(given, "max_completion_tokens") || counts_reasoning(&request.model) {
                    true => "max_completion_tokens",
                    false => "max_tokens",
                };
            body.insert(limit.to_owned(), json!(request.max_tokens));
            body.insert("stream_options".to_owned(), json!({"include_usage": true}));
            add_question(&mut body, request);
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
            body.insert("max_tokens".to_owned(), json!(request.max_tokens));
            add_question(&mut body, request);
        }
        Vendor::Gemini => {
            let mut config = generation_config(given);
            config.insert("maxOutputTokens".to_owned(), json!(request.max_tokens));
            body.insert("generationConfig".to_owned(), Value::Object(config));
            if let Some(settings) = given.get("safety_settings") {
                body.insert("safetySettings".to_owned(), settings.clone());
            }
            let question = json!([{"role": "user", "parts": [{"text": request.prompt}]}]);
            body.insert("contents".to_owned(), question);
        }
    }
    body
}

/// As OpenAI and Anthropic take it; both stream on request.
fn add_question(body: &mut Map<String, Value>, request: &CompletionRequest) {
    let question = json!([{"role": "user", "content": request.prompt}]);
    body.insert("messages".to_owned(), question);
    body.insert("model".to_owned(), json!(request.model));
    body.insert("stream".to_owned(), json!(true));
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
        && is_json_format(format)
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
