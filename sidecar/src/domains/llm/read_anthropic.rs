//! Events of Anthropic's messages API, as deltas of one choice.

use std::collections::HashMap;

use serde_json::Value;

use super::delta::{self, content, finish, reasoning};

/// Reads the events of one answer.
#[derive(Debug, Default)]
pub(super) struct AnthropicReader {
    /// Calls of tools by the number of their block.
    tools: HashMap<u64, Tool>,
}

#[derive(Debug)]
struct Tool {
    /// Its number among the calls, which the client sees.
    index: usize,
    has_arguments: bool,
}

impl AnthropicReader {
    pub(super) fn read(&mut self, event: &Value) -> Vec<Value> {
        let block = event.get("index").and_then(Value::as_u64).unwrap_or(0);
        match event["type"].as_str() {
            Some("message_start") => vec![delta::role(0)],
            Some("content_block_start") => self.start(block, &event["content_block"]),
            Some("content_block_delta") => self.delta(block, &event["delta"]),
            Some("content_block_stop") => self.stop(block),
            Some("message_delta") => {
                let reason = event.pointer("/delta/stop_reason").and_then(Value::as_str);
                reason.map(|it| finish(0, plain(it))).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    fn start(&mut self, number: u64, block: &Value) -> Vec<Value> {
        let text = |name: &str| block[name].as_str().unwrap_or_default();
        match block["type"].as_str() {
            Some("tool_use") => {
                let index = self.tools.len();
                // Whole at once, from servers that do not stream it.
                let given = block.get("input").and_then(Value::as_object);
                let given = given.filter(|input| !input.is_empty());
                let arguments = given.map(|input| Value::Object(input.clone()).to_string());
                self.tools.insert(
                    number,
                    Tool {
                        index,
                        has_arguments: arguments.is_some(),
                    },
                );
                let arguments = arguments.unwrap_or_default();
                vec![delta::tool(0, index, text("id"), text("name"), &arguments)]
            }
            Some("text") if !text("text").is_empty() => vec![content(0, text("text"))],
            _ => Vec::new(),
        }
    }

    fn delta(&mut self, number: u64, given: &Value) -> Vec<Value> {
        let text = |name: &str| given[name].as_str().filter(|it| !it.is_empty());
        match given["type"].as_str() {
            Some("text_delta") => text("text").map(|it| content(0, it)),
            Some("thinking_delta") => text("thinking").map(|it| reasoning(0, it)),
            Some("input_json_delta") => match (self.tools.get_mut(&number), text("partial_json")) {
                (Some(tool), Some(part)) => {
                    tool.has_arguments = true;
                    Some(delta::arguments(0, tool.index, part))
                }
                _ => None,
            },
            _ => None,
        }
        .into_iter()
        .collect()
    }

    /// A call without arguments has an empty object of them: clients parse it.
    fn stop(&mut self, number: u64) -> Vec<Value> {
        match self.tools.get_mut(&number) {
            Some(tool) if !tool.has_arguments => {
                tool.has_arguments = true;
                vec![delta::arguments(0, tool.index, "{}")]
            }
            _ => Vec::new(),
        }
    }
}

fn plain(reason: &str) -> &str {
    match reason {
        "max_tokens" | "model_context_window_exceeded" => "length",
        "tool_use" => "tool_calls",
        "refusal" => "content_filter",
        // end_turn, stop_sequence, pause_turn
        _ => "stop",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(events: &[Value]) -> Vec<Value> {
        let mut reader = AnthropicReader::default();
        events.iter().flat_map(|event| reader.read(event)).collect()
    }

    #[test]
    fn text_thinking_and_parallel_calls() {
        let start = |index: u64, block: Value| json!({"type": "content_block_start", "index": index, "content_block": block});
        let part = |index: u64, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
        let tool =
            |id: &str, name: &str| json!({"type": "tool_use", "id": id, "name": name, "input": {}});
        let stop = |index: u64| json!({"type": "content_block_stop", "index": index});
        let pieces = read(&[
            json!({"type": "message_start", "message": {"id": "msg_1"}}),
            json!({"type": "ping"}),
            start(0, json!({"type": "thinking", "thinking": ""})),
            part(0, json!({"type": "thinking_delta", "thinking": "hm"})),
            part(0, json!({"type": "signature_delta", "signature": "c2ln"})),
            start(1, json!({"type": "text", "text": ""})),
            part(1, json!({"type": "text_delta", "text": "Hi"})),
            stop(1),
            start(2, tool("toolu_1", "weather")),
            part(2, json!({"type": "input_json_delta", "partial_json": ""})),
            part(
                2,
                json!({"type": "input_json_delta", "partial_json": "{\"city\":"}),
            ),
            part(
                2,
                json!({"type": "input_json_delta", "partial_json": "\"Ams\"}"}),
            ),
            stop(2),
            start(3, tool("toolu_2", "now")),
            stop(3),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}),
        ]);
        assert_eq!(
            pieces,
            [
                delta::role(0),
                reasoning(0, "hm"),
                content(0, "Hi"),
                delta::tool(0, 0, "toolu_1", "weather", ""),
                delta::arguments(0, 0, "{\"city\":"),
                delta::arguments(0, 0, "\"Ams\"}"),
                delta::tool(0, 1, "toolu_2", "now", ""),
                delta::arguments(0, 1, "{}"),
                finish(0, "tool_calls"),
            ]
        );
    }

    #[test]
    fn reasons_of_the_end() {
        for (theirs, ours) in [
            ("end_turn", "stop"),
            ("stop_sequence", "stop"),
            ("pause_turn", "stop"),
            ("max_tokens", "length"),
            ("model_context_window_exceeded", "length"),
            ("refusal", "content_filter"),
            ("tool_use", "tool_calls"),
        ] {
            let event = json!({"type": "message_delta", "delta": {"stop_reason": theirs}});
            assert_eq!(read(&[event]), [finish(0, ours)], "{theirs}");
        }
        let counted = json!({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 1}});
        assert!(read(&[counted]).is_empty());
    }
}
