//! Chunks of OpenAI's API. They are passed on with what some servers write differently put right.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::fields::list;

/// Reads the chunks of one answer.
#[derive(Debug, Default)]
pub(super) struct OpenAiReader {
    calls: HashMap<u64, Vec<Call>>,
}

/// A call of a tool that has begun.
#[derive(Debug)]
struct Call {
    /// The index that the server gave it, if any.
    theirs: Option<u64>,
    id: Option<String>,
}

impl OpenAiReader {
    /// The choices of a chunk.
    pub(super) fn read(&mut self, chunk: &Value) -> Vec<Value> {
        let choices = list(chunk.get("choices")).iter();
        choices.map(|choice| self.choice(choice.clone())).collect()
    }

    fn choice(&mut self, mut choice: Value) -> Value {
        let index = choice.get("index").and_then(Value::as_u64).unwrap_or(0);
        if let Some(members) = choice.as_object_mut() {
            members.insert("index".to_owned(), json!(index));
            let reason = members.get("finish_reason").and_then(Value::as_str);
            let reason = reason.and_then(plain);
            members.insert("finish_reason".to_owned(), json!(reason));
        }
        if let Some(delta) = choice.get_mut("delta").and_then(Value::as_object_mut) {
            split_thinking(delta);
            let calls = self.calls.entry(index).or_default();
            let given = delta.get_mut("tool_calls").and_then(Value::as_array_mut);
            for call in given.into_iter().flatten() {
                number(call, calls);
            }
        }
        choice
    }
}

/// Gives the call its index. Some servers send none, or 0 for each of several whole calls, or repeat id and name in every chunk.
fn number(given: &mut Value, known: &mut Vec<Call>) {
    let theirs = given.get("index").and_then(Value::as_u64);
    let id = given["id"].as_str().filter(|id| !id.is_empty());
    let id = id.map(str::to_owned);
    let same = |call: &Call| match (&id, theirs) {
        (Some(id), _) if call.id.is_some() => call.id.as_ref() == Some(id),
        (_, Some(theirs)) => call.theirs == Some(theirs),
        _ => false,
    };
    let found = known.iter().rposition(same).or_else(|| {
        // Neither index nor id: the last one goes on.
        (id.is_none() && theirs.is_none() && !known.is_empty()).then(|| known.len() - 1)
    });
    let Some(members) = given.as_object_mut() else {
        return;
    };
    let index = match found {
        Some(index) => {
            for name in ["id", "type"] {
                members.remove(name);
            }
            if let Some(function) = members.get_mut("function").and_then(Value::as_object_mut) {
                function.remove("name");
            }
            index
        }
        None => {
            let id = id.unwrap_or_else(|| format!("call_{}", uuid::Uuid::new_v4().simple()));
            members.insert("id".to_owned(), json!(id));
            members.entry("type").or_insert_with(|| json!("function"));
            let id = Some(id);
            known.push(Call { theirs, id });
            known.len() - 1
        }
    };
    members.insert("index".to_owned(), json!(index));
}

/// Mistral sends a list of parts when the model thinks.
fn split_thinking(delta: &mut Map<String, Value>) {
    let Some(Value::Array(parts)) = delta.get("content") else {
        return;
    };
    let (mut text, mut thinking) = (String::new(), String::new());
    for part in parts {
        text.push_str(part["text"].as_str().unwrap_or_default());
        for thought in list(part.get("thinking")) {
            thinking.push_str(thought["text"].as_str().unwrap_or_default());
        }
    }
    delta.insert("content".to_owned(), json!(text));
    if !thinking.is_empty() {
        delta.insert("reasoning_content".to_owned(), json!(thinking));
    }
}

/// The reasons that clients know.
fn plain(reason: &str) -> Option<&str> {
    match reason {
        "" => None,
        "eos" | "eos_token" | "end_turn" => Some("stop"),
        "max_tokens" => Some("length"),
        "tool_use" => Some("tool_calls"),
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(deltas: &[Value]) -> Vec<Value> {
        let mut reader = OpenAiReader::default();
        let chunk =
            |calls: &Value| json!({"choices": [{"index": 0, "delta": {"tool_calls": calls}}]});
        let choices = deltas.iter().flat_map(|calls| reader.read(&chunk(calls)));
        choices
            .flat_map(|choice| choice["delta"]["tool_calls"].as_array().unwrap().clone())
            .collect()
    }

    #[test]
    fn what_openai_sends_stays_as_it_is() {
        let mut reader = OpenAiReader::default();
        let choice = json!({"index": 1, "delta": {"role": "assistant", "content": "a", "refusal": null}, "logprobs": {"content": []}, "finish_reason": null});
        assert_eq!(reader.read(&json!({"choices": [choice]})), [choice]);
        let deltas = [
            json!([{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]),
            json!([{"index": 0, "function": {"arguments": "{}"}}]),
            json!([{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}]),
        ];
        let wanted: Vec<_> = deltas.iter().map(|calls| calls[0].clone()).collect();
        assert_eq!(calls(&deltas), wanted);
    }

    #[test]
    fn calls_without_or_with_wrong_indices_get_stable_ones() {
        let whole = |id: &str| json!({"index": 0, "id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let fixed = calls(&[json!([whole("a")]), json!([whole("b")])]);
        assert_eq!(
            (&fixed[0]["index"], &fixed[1]["index"]),
            (&json!(0), &json!(1))
        );
        let bare = json!([{"id": "a", "function": {"name": "f", "arguments": "{\"x\":"}}]);
        let fixed = calls(&[bare, json!([{"function": {"arguments": "1}"}}])]);
        assert_eq!(fixed[0]["type"], "function");
        assert_eq!(
            fixed[1],
            json!({"function": {"arguments": "1}"}, "index": 0})
        );
    }

    #[test]
    fn an_id_and_a_name_come_once() {
        let again = |part: &str| json!([{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": part}}]);
        let fixed = calls(&[again("{"), again("}")]);
        assert_eq!(
            fixed[1],
            json!({"index": 0, "function": {"arguments": "}"}})
        );
    }

    #[test]
    fn a_call_without_an_id_gets_one() {
        let fixed = calls(&[json!([{"index": 0, "function": {"name": "f", "arguments": "{}"}}])]);
        assert!(fixed[0]["id"].as_str().unwrap().starts_with("call_"));
    }

    #[test]
    fn reasons_and_thinking_of_other_servers() {
        let mut reader = OpenAiReader::default();
        let choices = reader.read(&json!({"choices": [{"finish_reason": "eos_token", "delta": {"content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "a"},
        ]}}]}));
        assert_eq!(choices[0]["finish_reason"], "stop");
        assert_eq!(
            choices[0]["delta"],
            json!({"content": "a", "reasoning_content": "hm"})
        );
    }
}
