//! The body for Gemini's `generateContent`.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::{
    chat::Chat,
    content::{self, Part, Source},
    error::ApiError,
    tools::{self, Choice},
};

/// OpenAI's name, and Gemini's in `generationConfig`.
const CONFIG: [(&str, &str); 8] = [
    ("frequency_penalty", "frequencyPenalty"),
    ("logprobs", "responseLogprobs"),
    ("n", "candidateCount"),
    ("presence_penalty", "presencePenalty"),
    ("seed", "seed"),
    ("temperature", "temperature"),
    ("top_logprobs", "logprobs"),
    ("top_p", "topP"),
];

/// Google's own OpenAI-compatible API translates efforts to these.
const EFFORTS: [(&str, i64); 6] = [
    ("none", 0),
    ("minimal", 512),
    ("low", 1_024),
    ("medium", 8_192),
    ("high", 24_576),
    ("xhigh", 32_768),
];

/// Gemini 3 wants the signature of its thoughts back with a call of a function, which other clients and models do not have. With
/// this documented value it does without.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// The body; the address says whether the answer is streamed.
pub(super) fn body(
    chat: &Chat,
    model: &str,
    max_output: u64,
) -> Result<Map<String, Value>, ApiError> {
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| body.insert(name.to_owned(), value);
    let (instructions, contents) = contents(chat, model)?;
    if !instructions.is_empty() {
        set("systemInstruction", json!({"parts": instructions}));
    }
    set("contents", Value::Array(contents));
    set("generationConfig", config(chat, max_output)?);
    let (functions, choice) = tools::read(chat)?;
    if !functions.is_empty() {
        let declared: Vec<Value> = functions.into_iter().map(declaration).collect();
        set("tools", json!([{"functionDeclarations": declared}]));
        if let Some(choice) = choice {
            set("toolConfig", json!({"functionCallingConfig": mode(choice)}));
        }
    }
    Ok(body)
}

fn config(chat: &Chat, max_output: u64) -> Result<Value, ApiError> {
    let mut config = Map::new();
    for (ours, theirs) in CONFIG {
        if let Some(value) = chat.get(ours) {
            config.insert(theirs.to_owned(), value.clone());
        }
    }
    config.insert("maxOutputTokens".to_owned(), json!(max_output));
    match chat.get("stop") {
        Some(Value::Array(stop)) => drop(config.insert("stopSequences".to_owned(), json!(stop))),
        Some(stop) => drop(config.insert("stopSequences".to_owned(), json!([stop]))),
        None => {}
    }
    if let Some(format) = chat.get("response_format") {
        match format["type"].as_str() {
            Some("text") => {}
            Some("json_object" | "json_schema") => {
                config.insert("responseMimeType".to_owned(), json!("application/json"));
                if let Some(schema) = format.pointer("/json_schema/schema") {
                    config.insert("responseJsonSchema".to_owned(), schema.clone());
                }
            }
            _ => {
                let message = "response_format is text, json_object or json_schema";
                return Err(ApiError::invalid("response_format", message));
            }
        }
    }
    if let Some(effort) = chat.get("reasoning_effort").and_then(Value::as_str) {
        let budget = EFFORTS.iter().find(|(name, _)| *name == effort);
        let (_, budget) = budget.ok_or_else(|| {
            ApiError::invalid("reasoning_effort", "there is no such reasoning_effort")
        })?;
        config.insert(
            "thinkingConfig".to_owned(),
            json!({"thinkingBudget": budget}),
        );
    }
    Ok(Value::Object(config))
}

/// Instructions, and the conversation. Messages of one role in a row are one: the results of parallel calls must come together.
fn contents(chat: &Chat, model: &str) -> Result<(Vec<Value>, Vec<Value>), ApiError> {
    let mut instructions = Vec::new();
    let mut contents: Vec<(&str, Vec<Value>)> = Vec::new();
    // A result names its function; OpenAI's names the call.
    let mut names = HashMap::new();
    for message in chat.messages() {
        let (role, parts) = match message["role"].as_str() {
            Some("system" | "developer") => {
                let text = content::text(message)?;
                if !text.is_empty() {
                    instructions.push(json!({"text": text}));
                }
                continue;
            }
            Some("user") => ("user", parts(message)?),
            Some("assistant") => ("model", assistant(message, model, &mut names)?),
            Some("tool") => ("user", vec![tool_result(message, &names)?]),
            _ => {
                let message = "messages of the role function are not translated; use tools";
                return Err(ApiError::unsupported("messages", message));
            }
        };
        match contents.last_mut() {
            _ if parts.is_empty() => {}
            Some((last, all)) if *last == role => all.extend(parts),
            _ => contents.push((role, parts)),
        }
    }
    let contents = contents.into_iter();
    let contents = contents.map(|(role, parts)| json!({"role": role, "parts": parts}));
    Ok((instructions, contents.collect()))
}

fn assistant(
    message: &Value,
    model: &str,
    names: &mut HashMap<String, String>,
) -> Result<Vec<Value>, ApiError> {
    let mut all = parts(message)?;
    let calls = content::tool_calls(message)?;
    for (n, (id, name, arguments)) in calls.into_iter().enumerate() {
        names.insert(id.to_owned(), name.to_owned());
        let mut part = json!({"functionCall": {"name": name, "args": arguments}});
        let path = format!("/tool_calls/{n}/extra_content/google/thought_signature");
        match message.pointer(&path) {
            Some(signature) => part["thoughtSignature"] = signature.clone(),
            None if model.starts_with("gemini-3") => part["thoughtSignature"] = json!(NO_SIGNATURE),
            None => {}
        }
        all.push(part);
    }
    Ok(all)
}

fn tool_result(message: &Value, names: &HashMap<String, String>) -> Result<Value, ApiError> {
    let id = message["tool_call_id"].as_str().unwrap_or_default();
    let name = names.get(id).ok_or_else(|| {
        let message = "the tool_call_id of a message of the role tool is one of a call before it";
        ApiError::invalid("messages", message)
    })?;
    let text = content::text(message)?;
    let response = serde_json::from_str(&text)
        .ok()
        .filter(Value::is_object)
        .unwrap_or_else(|| json!({"result": text}));
    Ok(json!({"functionResponse": {"name": name, "response": response}}))
}

fn parts(message: &Value) -> Result<Vec<Value>, ApiError> {
    content::parts(message)?.into_iter().map(part).collect()
}

fn part(part: Part<'_>) -> Result<Value, ApiError> {
    match part {
        Part::Text(text) => Ok(json!({"text": text})),
        Part::Image(Source::Data { mime, base64 }) | Part::File(Source::Data { mime, base64 }) => {
            Ok(json!({"inlineData": {"mimeType": mime, "data": base64}}))
        }
        Part::Image(Source::Url(_)) | Part::File(Source::Url(_)) => Err(ApiError::unsupported(
            "messages",
            "Gemini takes images and files as data: URLs only",
        )),
    }
}

fn declaration(function: &Value) -> Value {
    let mut declared = Map::new();
    for name in ["name", "description"] {
        if let Some(value) = function.get(name) {
            declared.insert(name.to_owned(), value.clone());
        }
    }
    if let Some(schema) = function.get("parameters") {
        declared.insert("parametersJsonSchema".to_owned(), schema.clone());
    }
    Value::Object(declared)
}

fn mode(choice: Choice) -> Value {
    match choice {
        Choice::Auto => json!({"mode": "AUTO"}),
        Choice::None => json!({"mode": "NONE"}),
        Choice::Required => json!({"mode": "ANY"}),
        Choice::Function(name) => json!({"mode": "ANY", "allowedFunctionNames": [name]}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translate(model: &str, body: &Value) -> Result<Value, ApiError> {
        let mut whole = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        let object = whole.as_object_mut().unwrap();
        object.extend(body.as_object().unwrap().clone());
        let chat = Chat::read(whole.to_string().as_bytes()).unwrap();
        super::body(&chat, model, 100).map(Value::Object)
    }

    #[test]
    fn a_conversation_with_parallel_calls() {
        let call = |id: &str, name: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": "{\"a\":1}"}});
        let mut signed = call("1", "f");
        signed["extra_content"] = json!({"google": {"thought_signature": "c2ln"}});
        let messages = json!({"messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": "ok", "tool_calls": [signed, call("2", "g")]},
            {"role": "tool", "tool_call_id": "1", "content": "{\"x\":2}"},
            {"role": "tool", "tool_call_id": "2", "content": "text"},
        ]});
        let body = translate("gemini-2.5-pro", &messages).unwrap();
        assert_eq!(
            body["systemInstruction"],
            json!({"parts": [{"text": "be brief"}]})
        );
        assert_eq!(
            body["contents"],
            json!([
                {"role": "user", "parts": [{"text": "go"}]},
                {"role": "model", "parts": [
                    {"text": "ok"},
                    {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "c2ln"},
                    {"functionCall": {"name": "g", "args": {"a": 1}}},
                ]},
                {"role": "user", "parts": [
                    {"functionResponse": {"name": "f", "response": {"x": 2}}},
                    {"functionResponse": {"name": "g", "response": {"result": "text"}}},
                ]},
            ])
        );
        let newer = translate("gemini-3-pro", &messages).unwrap();
        assert_eq!(
            newer["contents"][1]["parts"][2]["thoughtSignature"],
            NO_SIGNATURE
        );
    }

    #[test]
    fn parameters_tools_and_formats() {
        let body = translate(
            "m",
            &json!({
                "n": 2, "temperature": 0.1, "top_p": 0.9, "seed": 7, "stop": ["a"], "reasoning_effort": "low",
                "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
                "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}],
                "tool_choice": {"type": "function", "function": {"name": "f"}},
            }),
        );
        let body = body.unwrap();
        assert_eq!(
            body["generationConfig"],
            json!({
                "candidateCount": 2, "seed": 7, "temperature": 0.1, "topP": 0.9, "maxOutputTokens": 100, "stopSequences": ["a"],
                "responseMimeType": "application/json", "responseJsonSchema": {"type": "object"},
                "thinkingConfig": {"thinkingBudget": 1024},
            })
        );
        assert_eq!(
            body["tools"],
            json!([{"functionDeclarations": [{"name": "f", "description": "d", "parametersJsonSchema": {"type": "object"}}]}])
        );
        assert_eq!(
            body["toolConfig"]["functionCallingConfig"],
            json!({"mode": "ANY", "allowedFunctionNames": ["f"]})
        );
        for (choice, mode) in [("auto", "AUTO"), ("none", "NONE"), ("required", "ANY")] {
            let body = json!({"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": choice});
            let body = translate("m", &body).unwrap();
            assert_eq!(body["toolConfig"]["functionCallingConfig"]["mode"], mode);
        }
    }

    #[test]
    fn images_come_as_data_only() {
        let with = |url: &str| {
            let content = json!([{"type": "image_url", "image_url": {"url": url}}]);
            translate(
                "m",
                &json!({"messages": [{"role": "user", "content": content}]}),
            )
        };
        let body = with("data:image/png;base64,AAAA").unwrap();
        assert_eq!(
            body["contents"][0]["parts"][0],
            json!({"inlineData": {"mimeType": "image/png", "data": "AAAA"}})
        );
        let error = with("https://example.com/a.png").unwrap_err();
        assert_eq!(error.code, "unsupported_parameter");
    }

    #[test]
    fn a_result_without_its_call_is_refused() {
        let messages = json!({"messages": [{"role": "tool", "tool_call_id": "1", "content": "x"}]});
        assert!(translate("m", &messages).is_err());
    }
}
