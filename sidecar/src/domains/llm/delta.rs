//! Pieces of an answer, as OpenAI's streams have them in `choices`.

use serde_json::{Value, json};

fn piece(choice: u64, delta: Value) -> Value {
    json!({"index": choice, "delta": delta, "logprobs": null, "finish_reason": null})
}

/// The first piece of a choice.
pub(super) fn role(choice: u64) -> Value {
    piece(
        choice,
        json!({"role": "assistant", "content": "", "refusal": null}),
    )
}

pub(super) fn content(choice: u64, text: &str) -> Value {
    piece(choice, json!({"content": text}))
}

/// What the model thinks, by the name that most servers with OpenAI's API use.
pub(super) fn reasoning(choice: u64, text: &str) -> Value {
    piece(choice, json!({"reasoning_content": text}))
}

/// A call of a tool begins. Id and name come once; clients take another one at the same index for an error.
pub(super) fn tool(choice: u64, index: usize, id: &str, name: &str, arguments: &str) -> Value {
    let function = json!({"name": name, "arguments": arguments});
    let call = json!({"index": index, "id": id, "type": "function", "function": function});
    piece(choice, json!({"tool_calls": [call]}))
}

/// The arguments of a call go on.
pub(super) fn arguments(choice: u64, index: usize, part: &str) -> Value {
    let call = json!({"index": index, "function": {"arguments": part}});
    piece(choice, json!({"tool_calls": [call]}))
}

pub(super) fn finish(choice: u64, reason: &str) -> Value {
    json!({"index": choice, "delta": {}, "logprobs": null, "finish_reason": reason})
}
