//! Reads the stream of any vendor as choices of OpenAI's, and counts what came.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{
    fields::list, read_anthropic::AnthropicReader, read_gemini::GeminiReader,
    read_openai::OpenAiReader,
};
use crate::llm::{Faults, LlmError, Usage, Vendor, malformed, parse, read_usage, truncated};

/// Larger events are none of a chat. A picture may come in one.
const MAX_EVENT: usize = 4 << 20;

/// Reads one answer.
#[derive(Debug)]
pub(super) struct Reader {
    vendor: Vendor,
    wire: Wire,
    /// What the vendor has counted so far.
    pub usage: Usage,
    /// OpenAI's own words for it, which have more kinds of tokens.
    pub reported: Option<Value>,
    /// The model that answers, by the vendor's name.
    pub model: Option<String>,
    /// Members of chunks beside the choices that clients know.
    pub extra: Map<String, Value>,
    pub tally: Tally,
}

#[derive(Debug)]
enum Wire {
    OpenAi(OpenAiReader),
    Anthropic(AnthropicReader),
    Gemini(GeminiReader),
}

/// What an event held.
#[derive(Debug, PartialEq)]
pub(super) enum Read {
    /// Lists of choices, each for a chunk of its own.
    Choices(Vec<Vec<Value>>),
    /// Nothing: it was the last one.
    End,
}

impl Reader {
    pub(super) fn new(vendor: Vendor) -> Self {
        let wire = match vendor {
            Vendor::OpenAi => Wire::OpenAi(OpenAiReader::default()),
            Vendor::Anthropic => Wire::Anthropic(AnthropicReader::default()),
            Vendor::Gemini => Wire::Gemini(GeminiReader::default()),
        };
        Self {
            vendor,
            wire,
            usage: Usage::default(),
            reported: None,
            model: None,
            extra: Map::new(),
            tally: Tally::default(),
        }
    }

    /// Takes in one event.
    pub(super) fn read(&mut self, data: &[u8], faults: &Faults<'_>) -> Result<Read, LlmError> {
        if data.is_empty() {
            return Ok(Read::Choices(Vec::new()));
        }
        if self.vendor == Vendor::OpenAi && data == b"[DONE]" {
            return Ok(Read::End);
        }
        if data.len() > MAX_EVENT {
            return Err(malformed());
        }
        let event = parse(data).map_err(|error| match error.is_eof() {
            true => truncated(),
            false => malformed(),
        })?;
        if !event.is_object() {
            return Err(malformed());
        }
        self.note(&event);
        if event.get("error").is_some_and(|error| !error.is_null()) {
            return Err(faults.event(&event));
        }
        let pieces: Vec<Vec<Value>> = match &mut self.wire {
            Wire::OpenAi(reader) => match reader.read(&event) {
                none if none.is_empty() => Vec::new(),
                choices => vec![choices],
            },
            Wire::Anthropic(reader) => apart(reader.read(&event)),
            Wire::Gemini(reader) => apart(reader.read(&event)?),
        };
        for choice in pieces.iter().flatten() {
            self.tally.take(choice);
        }
        if self.vendor == Vendor::Anthropic && event["type"] == "message_stop" {
            return Ok(Read::End);
        }
        Ok(Read::Choices(pieces))
    }

    /// The body has ended, or its last event came: what was still to say, if the answer is whole.
    pub(super) fn end(&mut self) -> Result<Vec<Vec<Value>>, LlmError> {
        let pieces = match &mut self.wire {
            Wire::Gemini(reader) => apart(reader.end()),
            _ => Vec::new(),
        };
        for choice in pieces.iter().flatten() {
            self.tally.take(choice);
        }
        match self.tally.is_complete() {
            true => Ok(pieces),
            false => Err(truncated()),
        }
    }

    /// Usage, model, and the like.
    fn note(&mut self, event: &Value) {
        read_usage(self.vendor, event, &mut self.usage);
        let names = ["/model", "/message/model", "/modelVersion"];
        let mut names = names
            .iter()
            .filter_map(|path| event.pointer(path)?.as_str());
        if let Some(name) = names.find(|name| !name.is_empty()) {
            self.model = Some(name.to_owned());
        }
        if self.vendor == Vendor::OpenAi {
            if let Some(usage) = event.get("usage").filter(|usage| usage.is_object()) {
                self.reported = Some(usage.clone());
            }
            for name in ["service_tier", "system_fingerprint"] {
                if let Some(value) = event.get(name) {
                    self.extra.insert(name.to_owned(), value.clone());
                }
            }
        }
    }
}

fn apart(choices: Vec<Value>) -> Vec<Vec<Value>> {
    choices.into_iter().map(|choice| vec![choice]).collect()
}

/// What has come of the choices.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Bytes of texts, thoughts and arguments.
    pub bytes: usize,
    started: BTreeSet<u64>,
    finished: BTreeMap<u64, String>,
}

impl Tally {
    pub(super) fn take(&mut self, choice: &Value) {
        let index = choice["index"].as_u64().unwrap_or(0);
        self.started.insert(index);
        self.bytes += length(choice);
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.finished.insert(index, reason.to_owned());
        }
    }

    /// Every choice that began has ended.
    pub(super) fn is_complete(&self) -> bool {
        !self.started.is_empty() && self.started.iter().all(|it| self.finished.contains_key(it))
    }

    /// Why the choices ended.
    pub(super) fn finish_reasons(&self) -> Vec<String> {
        self.finished.values().cloned().collect()
    }

    /// Why the first choice ended.
    pub(super) fn finish_reason(&self) -> Option<&str> {
        self.finished.values().next().map(String::as_str)
    }
}

/// Whether a piece says more than that a choice begins. Until one does, another vendor may answer.
pub(super) fn has_substance(choice: &Value) -> bool {
    choice["finish_reason"].is_string() || length(choice) > 0 || {
        let delta = &choice["delta"];
        !list(delta.get("tool_calls")).is_empty()
            || delta.get("audio").is_some_and(Value::is_object)
    }
}

fn length(choice: &Value) -> usize {
    let Some(delta) = choice.get("delta") else {
        return 0;
    };
    let text = |value: &Value, path: &str| {
        let text = value.pointer(path).and_then(Value::as_str);
        text.map_or(0, str::len)
    };
    let paths = [
        "/content",
        "/refusal",
        "/reasoning_content",
        "/reasoning",
        "/function_call/arguments",
    ];
    let texts: usize = paths.iter().map(|path| text(delta, path)).sum();
    let calls = list(delta.get("tool_calls")).iter();
    let calls = calls.map(|call| text(call, "/function/arguments") + text(call, "/function/name"));
    texts + calls.sum::<usize>()
}
