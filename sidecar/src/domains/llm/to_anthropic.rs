//! The body for Anthropic's messages API.

use serde_json::{Map, Value, json};

use super::{
    chat::Chat,
    content::{self, Part, Source},
    error::ApiError,
    tools::{self, Choice},
};

/// The body; it always asks for a stream.
pub(super) fn body(
    chat: &Chat,
    model: &str,
    max_output: u64,
) -> Result<Map<String, Value>, ApiError> {
    if chat.choices > 1 {
        return Err(ApiError::unsupported(
            "n",
            "Anthropic's models give one choice",
        ));
    }
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| body.insert(name.to_owned(), value);
    set("model", json!(model));
    set("max_tokens", json!(max_output));
    set("stream", json!(true));
    let system = system(chat)?;
    if !system.is_empty() {
        set("system", Value::Array(system));
    }
    set("messages", Value::Array(messages(chat)?));
    if let Some(temperature) = chat.get("temperature") {
        // OpenAI's goes up to 2.
        let over = temperature.as_f64().is_some_and(|it| it > 1.0);
        set(
            "temperature",
            if over { json!(1) } else { temperature.clone() },
        );
    }
    if let Some(top_p) = chat.get("top_p") {
        set("top_p", top_p.clone());
    }
    match chat.get("stop") {
        Some(Value::Array(stop)) => drop(set("stop_sequences", json!(stop))),
        Some(stop) => drop(set("stop_sequences", json!([stop]))),
        None => {}
    }
    if let Some(user) = chat.get("safety_identifier").or_else(|| chat.get("user")) {
        set("metadata", json!({"user_id": user}));
    }
    if let Some(schema) = chat.get("response_format").and_then(schema) {
        let format = json!({"format": {"type": "json_schema", "schema": schema}});
        set("output_config", format);
    }
    let (functions, choice) = tools::read(chat)?;
    if !functions.is_empty() {
        set("tools", functions.iter().map(tool).collect());
        if let Some(choice) = tool_choice(chat, choice.as_ref()) {
            set("tool_choice", choice);
        }
    }
    Ok(body)
}

fn schema(format: &Value) -> Option<Value> {
    format.pointer("/json_schema/schema").cloned()
}

fn is_system(message: &Value) -> bool {
    matches!(message["role"].as_str(), Some("system" | "developer"))
}

/// Instructions are apart from the conversation, wherever in it they stood.
fn system(chat: &Chat) -> Result<Vec<Value>, ApiError> {
    let messages = chat.messages().iter().filter(|it| is_system(it));
    let mut blocks = Vec::new();
    for message in messages {
        let text = content::text(message)?;
        if !text.is_empty() {
            blocks.push(json!({"type": "text", "text": text}));
        }
    }
    Ok(blocks)
}

/// Messages of one role in a row are one message: the results of parallel calls must come together.
fn messages(chat: &Chat) -> Result<Vec<Value>, ApiError> {
    let mut messages: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in chat.messages().iter().filter(|it| !is_system(it)) {
        let (role, blocks) = match message["role"].as_str() {
            Some("assistant") => ("assistant", assistant(message)?),
            Some("tool") => ("user", vec![tool_result(message)?]),
            Some("user") => ("user", blocks(message)?),
            _ => {
                let message = "messages of the role function are not translated; use tools";
                return Err(ApiError::unsupported("messages", message));
            }
        };
        match messages.last_mut() {
            _ if blocks.is_empty() => {}
            Some((last, all)) if *last == role => all.extend(blocks),
            _ => messages.push((role, blocks)),
        }
    }
    let messages = messages.into_iter();
    Ok(messages
        .map(|(role, content)| json!({"role": role, "content": content}))
        .collect())
}

fn assistant(message: &Value) -> Result<Vec<Value>, ApiError> {
    let mut all = blocks(message)?;
    for (id, name, input) in content::tool_calls(message)? {
        all.push(json!({"type": "tool_use", "id": id, "name": name, "input": input}));
    }
    Ok(all)
}

fn tool_result(message: &Value) -> Result<Value, ApiError> {
    let id = message["tool_call_id"].as_str().ok_or_else(|| {
        ApiError::invalid("messages", "a message of the role tool has a tool_call_id")
    })?;
    Ok(json!({"type": "tool_result", "tool_use_id": id, "content": blocks(message)?}))
}

fn blocks(message: &Value) -> Result<Vec<Value>, ApiError> {
    let parts = content::parts(message)?.into_iter();
    Ok(parts.map(block).collect())
}

fn block(part: Part<'_>) -> Value {
    let (kind, source) = match part {
        Part::Text(text) => return json!({"type": "text", "text": text}),
        Part::Image(source) => ("image", source),
        Part::File(source) => ("document", source),
    };
    let source = match source {
        Source::Data { mime, base64 } => {
            json!({"type": "base64", "media_type": mime, "data": base64})
        }
        Source::Url(url) => json!({"type": "url", "url": url}),
    };
    json!({"type": kind, "source": source})
}

fn tool(function: &&Value) -> Value {
    let empty = || json!({"type": "object", "properties": {}});
    let mut tool = Map::new();
    tool.insert("name".to_owned(), function["name"].clone());
    if let Some(description) = function.get("description") {
        tool.insert("description".to_owned(), description.clone());
    }
    let schema = function.get("parameters").cloned().unwrap_or_else(empty);
    tool.insert("input_schema".to_owned(), schema);
    Value::Object(tool)
}

fn tool_choice(chat: &Chat, choice: Option<&Choice>) -> Option<Value> {
    let one = chat.get("parallel_tool_calls") == Some(&Value::Bool(false));
    let mut value = match choice {
        None if one => json!({"type": "auto"}),
        None => return None,
        Some(Choice::Auto) => json!({"type": "auto"}),
        Some(Choice::None) => return Some(json!({"type": "none"})),
        Some(Choice::Required) => json!({"type": "any"}),
        Some(Choice::Function(name)) => json!({"type": "tool", "name": name}),
    };
    if one {
        value["disable_parallel_tool_use"] = json!(true);
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translate(body: &Value) -> Result<Value, ApiError> {
        let mut whole = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        let object = whole.as_object_mut().unwrap();
        object.extend(body.as_object().unwrap().clone());
        let chat = Chat::read(whole.to_string().as_bytes()).unwrap();
        super::body(&chat, "claude", 100).map(Value::Object)
    }

    #[test]
    fn instructions_are_apart_and_results_of_parallel_calls_together() {
        let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Ams\"}"}});
        let body = translate(&json!({"messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "weather?"},
            {"role": "assistant", "content": null, "tool_calls": [call("a"), call("b")]},
            {"role": "tool", "tool_call_id": "a", "content": "sun"},
            {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "rain"}]},
            {"role": "developer", "content": "in Dutch"},
            {"role": "user", "content": "and?"},
        ]}));
        let body = body.unwrap();
        assert_eq!(
            body["system"],
            json!([{"type": "text", "text": "be brief"}, {"type": "text", "text": "in Dutch"}])
        );
        let tool = |id: &str| json!({"type": "tool_use", "id": id, "name": "weather", "input": {"city": "Ams"}});
        let result = |id: &str, text: &str| json!({"type": "tool_result", "tool_use_id": id, "content": [{"type": "text", "text": text}]});
        assert_eq!(
            body["messages"],
            json!([
                {"role": "user", "content": [{"type": "text", "text": "weather?"}]},
                {"role": "assistant", "content": [tool("a"), tool("b")]},
                {"role": "user", "content": [result("a", "sun"), result("b", "rain"), {"type": "text", "text": "and?"}]},
            ])
        );
        assert_eq!(
            (&body["max_tokens"], &body["stream"]),
            (&json!(100), &json!(true))
        );
    }

    #[test]
    fn tools_and_how_they_are_chosen() {
        let tools = json!([
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true}},
            {"type": "function", "function": {"name": "g"}},
        ]);
        let with = |more: Value| {
            let mut body = json!({"tools": tools});
            body.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            translate(&body).unwrap()
        };
        assert_eq!(
            with(json!({}))["tools"],
            json!([
                {"name": "f", "description": "d", "input_schema": {"type": "object"}},
                {"name": "g", "input_schema": {"type": "object", "properties": {}}},
            ])
        );
        let named = json!({"type": "function", "function": {"name": "f"}});
        for (more, wanted) in [
            (json!({}), Value::Null),
            (json!({"tool_choice": "auto"}), json!({"type": "auto"})),
            (json!({"tool_choice": "none"}), json!({"type": "none"})),
            (json!({"tool_choice": "required"}), json!({"type": "any"})),
            (
                json!({"tool_choice": named}),
                json!({"type": "tool", "name": "f"}),
            ),
            (
                json!({"parallel_tool_calls": false}),
                json!({"type": "auto", "disable_parallel_tool_use": true}),
            ),
            (
                json!({"parallel_tool_calls": false, "tool_choice": "required"}),
                json!({"type": "any", "disable_parallel_tool_use": true}),
            ),
        ] {
            assert_eq!(with(more)["tool_choice"], wanted);
        }
        let allowed = json!({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]}}});
        let body = with(allowed);
        assert_eq!(body["tools"].as_array().unwrap().len(), 1);
        assert_eq!(body["tool_choice"], json!({"type": "any"}));
    }

    #[test]
    fn images_formats_and_parameters() {
        let body = translate(&json!({
            "messages": [{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,BBBB"}},
            ]}],
            "temperature": 1.7, "top_p": 0.5, "stop": "END", "user": "u1", "seed": 3,
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
        }));
        let body = body.unwrap();
        let content = &body["messages"][0]["content"];
        assert_eq!(
            content[0],
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}})
        );
        assert_eq!(
            content[1]["source"],
            json!({"type": "url", "url": "https://example.com/a.png"})
        );
        assert_eq!(content[2]["type"], "document");
        assert_eq!(
            (&body["temperature"], &body["top_p"]),
            (&json!(1), &json!(0.5))
        );
        assert_eq!(body["stop_sequences"], json!(["END"]));
        assert_eq!(body["metadata"], json!({"user_id": "u1"}));
        assert_eq!(
            body["output_config"],
            json!({"format": {"type": "json_schema", "schema": {"type": "object"}}})
        );
        assert!(body.get("seed").is_none());
    }

    #[test]
    fn what_cannot_be_translated_is_refused() {
        for (body, param) in [
            (json!({"n": 2}), "n"),
            (
                json!({"messages": [{"role": "function", "name": "f", "content": "x"}]}),
                "messages",
            ),
            (
                json!({"messages": [{"role": "tool", "content": "x"}]}),
                "messages",
            ),
            (json!({"tools": [{"type": "web_search"}]}), "tools"),
            (json!({"functions": [{"name": "f"}]}), "functions"),
        ] {
            let error = translate(&body).unwrap_err();
            assert_eq!(error.param, Some(param), "{body}");
        }
    }
}
