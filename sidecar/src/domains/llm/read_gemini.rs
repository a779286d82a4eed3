//! Events of Gemini's `streamGenerateContent`, as deltas of its candidates.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    delta::{self, content, finish, reasoning},
    fields::list,
};
use crate::llm::{LlmError, LlmFault};

/// Reasons for a filter or a refusal.
const FILTERED: [&str; 8] = [
    "SAFETY",
    "RECITATION",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_RECITATION",
];

/// Reads the events of one answer.
#[derive(Debug, Default)]
pub(super) struct GeminiReader {
    candidates: BTreeMap<u64, Candidate>,
}

#[derive(Debug, Default)]
struct Candidate {
    calls: usize,
    /// `STOP` comes with every event, so that only the end says that it was the last one.
    reason: Option<&'static str>,
    ended: bool,
}

impl GeminiReader {
    pub(super) fn read(&mut self, event: &Value) -> Result<Vec<Value>, LlmError> {
        let mut pieces = Vec::new();
        if event.pointer("/promptFeedback/blockReason").is_some() {
            let candidate = self.candidates.entry(0).or_insert_with(|| {
                pieces.push(delta::role(0));
                Candidate::default()
            });
            candidate.reason = Some("content_filter");
        }
        for given in list(event.get("candidates")) {
            let index = given.get("index").and_then(Value::as_u64).unwrap_or(0);
            let candidate = self.candidates.entry(index).or_insert_with(|| {
                pieces.push(delta::role(index));
                Candidate::default()
            });
            for part in list(given.pointer("/content/parts")) {
                pieces.extend(candidate.part(index, part));
            }
            if let Some(reason) = given["finishReason"].as_str() {
                candidate.stopped(reason)?;
            }
        }
        Ok(pieces)
    }

    /// The ends of all candidates, when the answer has ended.
    pub(super) fn end(&mut self) -> Vec<Value> {
        let candidates = self.candidates.iter_mut();
        let ends = candidates.filter_map(|(index, candidate)| {
            let reason = candidate.reason?;
            let ended = std::mem::replace(&mut candidate.ended, true);
            let reason = match reason {
                "stop" if candidate.calls > 0 => "tool_calls",
                reason => reason,
            };
            (!ended).then(|| finish(*index, reason))
        });
        ends.collect()
    }
}

impl Candidate {
    fn part(&mut self, index: u64, part: &Value) -> Option<Value> {
        if let Some(call) = part.get("functionCall") {
            let number = self.calls;
            self.calls += 1;
            let id = match call["id"].as_str() {
                Some(id) if !id.is_empty() => id.to_owned(),
                _ => format!("call_{}", uuid::Uuid::new_v4().simple()),
            };
            let name = call["name"].as_str().unwrap_or_default();
            let arguments = call.get("args").cloned().unwrap_or_else(|| json!({}));
            let mut piece = delta::tool(index, number, &id, name, &arguments.to_string());
            if let Some(signature) = part.get("thoughtSignature") {
                let google = json!({"google": {"thought_signature": signature}});
                piece["delta"]["tool_calls"][0]["extra_content"] = google;
            }
            return Some(piece);
        }
        let text = part["text"].as_str().filter(|text| !text.is_empty())?;
        Some(match part["thought"].as_bool() {
            Some(true) => reasoning(index, text),
            _ => content(index, text),
        })
    }

    fn stopped(&mut self, reason: &str) -> Result<(), LlmError> {
        let reason = match reason {
            "STOP" => "stop",
            "MAX_TOKENS" => "length",
            filtered if FILTERED.contains(&filtered) => "content_filter",
            other => {
                let other: String = other.chars().take(60).collect();
                let message = format!("the model stopped before its answer was complete ({other})");
                return Err(LlmError::new(LlmFault::Stopped, message));
            }
        };
        if self.reason.is_none_or(|known| known == "stop") {
            self.reason = Some(reason);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(events: &[Value]) -> Result<Vec<Value>, LlmError> {
        let mut reader = GeminiReader::default();
        let mut pieces = Vec::new();
        for event in events {
            pieces.extend(reader.read(event)?);
        }
        pieces.extend(reader.end());
        assert!(reader.end().is_empty());
        Ok(pieces)
    }

    #[test]
    fn a_stop_with_every_event_ends_once() {
        let event = |text: &str| json!({"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}]});
        assert_eq!(
            read(&[event("a"), event("b")]).unwrap(),
            [
                delta::role(0),
                content(0, "a"),
                content(0, "b"),
                finish(0, "stop")
            ]
        );
    }

    #[test]
    fn whole_calls_get_indices_and_ids() {
        let call = |name: &str| json!({"functionCall": {"name": name, "args": {"a": 1}}, "thoughtSignature": "c2ln"});
        let pieces = read(&[
            json!({"candidates": [{"content": {"parts": [{"text": "hm", "thought": true}, call("f")]}}]}),
            json!({"candidates": [{"content": {"parts": [{"functionCall": {"id": "own", "name": "g"}}]}, "finishReason": "STOP"}]}),
        ]);
        let pieces = pieces.unwrap();
        assert_eq!(pieces[1], reasoning(0, "hm"));
        let call = &pieces[2]["delta"]["tool_calls"][0];
        assert!(call["id"].as_str().unwrap().starts_with("call_"));
        assert_eq!(call["extra_content"]["google"]["thought_signature"], "c2ln");
        assert_eq!(call["function"]["arguments"], "{\"a\":1}");
        assert_eq!(pieces[3], delta::tool(0, 1, "own", "g", "{}"));
        assert_eq!(pieces[4], finish(0, "tool_calls"));
    }

    #[test]
    fn several_candidates_end_each_for_itself() {
        let pieces = read(&[json!({"candidates": [
            {"index": 0, "content": {"parts": [{"text": "a"}]}, "finishReason": "MAX_TOKENS"},
            {"index": 1, "content": {"parts": [{"text": "b"}]}, "finishReason": "SAFETY"},
        ]})]);
        assert_eq!(
            pieces.unwrap()[4..],
            [finish(0, "length"), finish(1, "content_filter")]
        );
    }

    #[test]
    fn a_blocked_prompt_is_filtered_and_a_broken_end_is_an_error() {
        let blocked = json!({"promptFeedback": {"blockReason": "SAFETY"}});
        let wanted = [delta::role(0), finish(0, "content_filter")];
        assert_eq!(read(&[blocked]).unwrap(), wanted);
        for reason in ["MALFORMED_FUNCTION_CALL", "OTHER", "LANGUAGE"] {
            let event = json!({"candidates": [{"finishReason": reason}]});
            assert_eq!(read(&[event]).unwrap_err().code(), "model_stopped");
        }
    }
}
