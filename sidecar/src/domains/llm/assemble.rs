//! A whole answer out of the pieces of a stream.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The choices so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Assembly {
    choices: BTreeMap<u64, Choice>,
}

#[derive(Debug, Clone, Default)]
struct Choice {
    /// Texts of the message by their names: `content`, `refusal`, `reasoning_content`.
    texts: Map<String, Value>,
    calls: BTreeMap<u64, Call>,
    logprobs: Map<String, Value>,
    finish_reason: Option<String>,
}

#[derive(Debug, Clone, Default)]
struct Call {
    members: Map<String, Value>,
    name: String,
    arguments: String,
}

impl Assembly {
    pub(super) fn take(&mut self, piece: &Value) {
        let index = piece["index"].as_u64().unwrap_or(0);
        let choice = self.choices.entry(index).or_default();
        if let Some(reason) = piece["finish_reason"].as_str() {
            choice.finish_reason = Some(reason.to_owned());
        }
        for (name, values) in members(&piece["logprobs"]) {
            if let Some(values) = values.as_array() {
                let all = choice.logprobs.entry(name).or_insert_with(|| json!([]));
                if let Some(all) = all.as_array_mut() {
                    all.extend(values.iter().cloned());
                }
            }
        }
        for (name, value) in members(&piece["delta"]) {
            match (name.as_str(), value) {
                ("role", _) => {}
                ("tool_calls", Value::Array(calls)) => {
                    for call in calls {
                        choice.call(call);
                    }
                }
                (_, Value::String(text)) => match choice.texts.get_mut(name) {
                    Some(Value::String(all)) => all.push_str(text),
                    _ => drop(choice.texts.insert(name.clone(), json!(text))),
                },
                _ => {}
            }
        }
    }

    /// The choices of a `chat.completion`.
    pub(super) fn choices(self) -> Vec<Value> {
        let choices = self.choices.into_iter();
        choices.map(|(index, choice)| choice.whole(index)).collect()
    }
}

impl Choice {
    fn call(&mut self, given: &Value) {
        let index = given["index"].as_u64().unwrap_or(0);
        let call = self.calls.entry(index).or_default();
        for (name, value) in members(given) {
            if !matches!(name.as_str(), "index" | "function") {
                call.members.insert(name.clone(), value.clone());
            }
        }
        let text = |name: &str| given["function"][name].as_str().unwrap_or_default();
        call.name.push_str(text("name"));
        call.arguments.push_str(text("arguments"));
    }

    fn whole(self, index: u64) -> Value {
        let mut texts = self.texts;
        // A message that is only calls has no content.
        let content = texts
            .remove("content")
            .filter(|it| it != "" || self.calls.is_empty());
        let mut message = Map::new();
        message.insert("role".to_owned(), json!("assistant"));
        message.insert("content".to_owned(), content.unwrap_or_default());
        message.insert(
            "refusal".to_owned(),
            texts.remove("refusal").unwrap_or_default(),
        );
        message.extend(texts);
        if !self.calls.is_empty() {
            let calls = self.calls.into_values().map(Call::whole).collect();
            message.insert("tool_calls".to_owned(), calls);
        }
        let logprobs = match self.logprobs.is_empty() {
            true => Value::Null,
            false => Value::Object(self.logprobs),
        };
        json!({
            "index": index,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": self.finish_reason,
        })
    }
}

impl Call {
    fn whole(self) -> Value {
        let mut members = self.members;
        let function = json!({"name": self.name, "arguments": self.arguments});
        members.insert("function".to_owned(), function);
        Value::Object(members)
    }
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domains::llm::delta;

    #[test]
    fn texts_calls_and_ends_by_choice() {
        let mut assembly = Assembly::default();
        let mut logged = delta::content(1, "b");
        logged["logprobs"] = json!({"content": [{"token": "b"}], "refusal": null});
        for piece in [
            delta::role(0),
            delta::role(1),
            delta::reasoning(0, "hm"),
            delta::tool(0, 0, "a", "f", ""),
            delta::arguments(0, 0, "{\"x\":"),
            delta::tool(0, 1, "b", "g", "{}"),
            delta::arguments(0, 0, "1}"),
            delta::content(1, "a"),
            logged,
            delta::finish(0, "tool_calls"),
            delta::finish(1, "stop"),
        ] {
            assembly.take(&piece);
        }
        let call = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
        let calls = json!([call("a", "f", "{\"x\":1}"), call("b", "g", "{}")]);
        assert_eq!(
            assembly.choices(),
            [
                json!({
                    "index": 0, "logprobs": null, "finish_reason": "tool_calls",
                    "message": {"role": "assistant", "content": null, "refusal": null, "reasoning_content": "hm", "tool_calls": calls},
                }),
                json!({
                    "index": 1, "logprobs": {"content": [{"token": "b"}]}, "finish_reason": "stop",
                    "message": {"role": "assistant", "content": "ab", "refusal": null},
                }),
            ]
        );
    }
}
