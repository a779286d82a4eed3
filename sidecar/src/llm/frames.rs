//! The events of a vendor's answer: text, usage, the model that answered, refusals, the reason of the end.

use std::borrow::Cow;

use kijko_core::db::storable;
use serde_json::Value;
use tokio::time::Instant;

use super::{reported, usage::Progress, vendor::Vendor, weight::weight};

/// Gemini's finish reasons for a filter or a refusal.
const GEMINI_REFUSALS: [&str; 8] = [
    "SAFETY",
    "RECITATION",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_RECITATION",
];

/// Values of an answer take so much, and so much for each of its bytes: enough for lists of numbers, as embeddings are.
const MAX_WEIGHT: (usize, usize) = (16 << 20, 12);

/// A parser refuses half of a surrogate pair (a model can write one), and the call would be lost: U+FFFD replaces it.
pub(crate) fn parse(data: &[u8]) -> Result<Value, serde_json::Error> {
    if weight(data) > MAX_WEIGHT.0 + data.len() * MAX_WEIGHT.1 {
        return Err(serde::de::Error::custom("it has too many values"));
    }
    serde_json::from_slice(data).or_else(|error| match std::str::from_utf8(data).map(storable) {
        Ok(Cow::Owned(text)) => serde_json::from_str(&text),
        _ => Err(error),
    })
}

/// Reads the events of one call.
pub(super) struct FrameReader {
    vendor: Vendor,
    progress: Progress,
    start: Instant,
    /// What was read so far.
    pub seen: Seen,
}

/// What the events of a call held.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Events that were not empty.
    pub events: usize,
    /// The answer.
    pub text: String,
    /// Why the model stopped; without it the answer broke off.
    pub finish_reason: Option<String>,
    /// The model declined; its message, if it had one.
    pub refusal: Option<String>,
}

/// What comes after an event.
#[derive(Debug, PartialEq)]
pub(super) enum Flow {
    /// Another one.
    More,
    /// Nothing: it was the last one.
    End,
    /// Nothing: it is an error, with this body.
    Error(Value),
}

/// A piece of an answer.
enum Piece<'a> {
    Text(&'a str),
    /// Thinking is counted and thrown away.
    Thinking(&'a str),
}

impl Seen {
    /// Gemini sends `STOP` with every event, so any other reason is kept.
    fn stopped(&mut self, reason: &str) {
        if self
            .finish_reason
            .as_deref()
            .is_none_or(|known| known == "stop")
        {
            self.finish_reason = Some(plain(reason));
        }
    }
}

impl FrameReader {
    /// For a call that began at `start`.
    pub(super) fn new(vendor: Vendor, progress: Progress, start: Instant) -> Self {
        Self {
            vendor,
            progress,
            start,
            seen: Seen::default(),
        }
    }

    /// Takes in one event. An error means that it is no JSON.
    pub(super) fn read(&mut self, data: &[u8]) -> Result<Flow, serde_json::Error> {
        if data.is_empty() {
            return Ok(Flow::More);
        }
        self.seen.events += 1;
        if self.vendor == Vendor::OpenAi && data == b"[DONE]" {
            return Ok(Flow::End);
        }
        let event = parse(data)?;
        match self.vendor {
            Vendor::OpenAi => openai(&event, &mut self.seen),
            Vendor::Anthropic => anthropic(&event, &mut self.seen),
            Vendor::Gemini => gemini(&event, &mut self.seen),
        }
        self.progress.update(|state| {
            reported::read(self.vendor, &event, &mut state.usage);
            if let Some(tier) = text(&event, "/service_tier") {
                state.service_tier = Some(tier.to_owned());
            }
            let names = ["/model", "/message/model", "/modelVersion"];
            if let Some(name) = names.iter().find_map(|path| text(&event, path)) {
                state.model = Some(name.to_owned());
            }
        });
        if event.get("error").is_some_and(|error| !error.is_null()) {
            return Ok(Flow::Error(event));
        }
        self.take_pieces(&event);
        match text(&event, "/type") {
            Some("message_stop") if self.vendor == Vendor::Anthropic => Ok(Flow::End),
            _ => Ok(Flow::More),
        }
    }

    fn take_pieces(&mut self, event: &Value) {
        let mut length = 0;
        for piece in pieces(self.vendor, event) {
            length += match piece {
                Piece::Text(text) => {
                    self.seen.text.push_str(text);
                    self.progress.push_text(text);
                    text.len()
                }
                Piece::Thinking(text) => text.len(),
            };
        }
        if length > 0 {
            let elapsed = self.start.elapsed();
            self.progress.update(|state| {
                state.first_token.get_or_insert(elapsed);
                state.answer_bytes += length;
            });
        }
    }
}

fn pieces(vendor: Vendor, event: &Value) -> Vec<Piece<'_>> {
    let text = |path: &str| text(event, path);
    let list = |path: &str| event.pointer(path).and_then(Value::as_array);
    match vendor {
        Vendor::OpenAi => {
            let thinking = [
                "/choices/0/delta/reasoning_content",
                "/choices/0/delta/reasoning",
            ];
            let thinking = thinking.iter().find_map(|path| text(path));
            let content = text("/choices/0/delta/content").map(Piece::Text);
            // Mistral sends a list when the model thinks.
            let parts = list("/choices/0/delta/content").into_iter().flatten();
            let parts = parts.flat_map(|part| match self::text(part, "/text") {
                Some(text) => vec![Piece::Text(text)],
                None => thoughts(part),
            });
            let thinking = thinking.map(Piece::Thinking);
            thinking.into_iter().chain(content).chain(parts).collect()
        }
        Vendor::Anthropic => {
            let content = text("/delta/text").map(Piece::Text);
            let thinking = text("/delta/thinking").map(Piece::Thinking);
            content.into_iter().chain(thinking).collect()
        }
        Vendor::Gemini => list("/candidates/0/content/parts")
            .into_iter()
            .flatten()
            .filter_map(|part| {
                let text = self::text(part, "/text")?;
                match part.get("thought").and_then(Value::as_bool) {
                    Some(true) => Some(Piece::Thinking(text)),
                    _ => Some(Piece::Text(text)),
                }
            })
            .collect(),
    }
}

fn thoughts(part: &Value) -> Vec<Piece<'_>> {
    let thoughts = part.get("thinking").and_then(Value::as_array);
    let texts = thoughts.into_iter().flatten();
    texts
        .filter_map(|thought| text(thought, "/text").map(Piece::Thinking))
        .collect()
}

fn openai(event: &Value, seen: &mut Seen) {
    if let Some(message) = text(event, "/choices/0/delta/refusal") {
        seen.refusal.get_or_insert_default().push_str(message);
    }
    if let Some(reason) = text(event, "/choices/0/finish_reason") {
        if reason == "content_filter" {
            seen.refusal.get_or_insert_default();
        }
        seen.stopped(reason);
    }
}

fn anthropic(event: &Value, seen: &mut Seen) {
    if let Some(reason) = text(event, "/delta/stop_reason") {
        if reason == "refusal" {
            seen.refusal.get_or_insert_default();
        }
        seen.stopped(reason);
    }
}

fn gemini(event: &Value, seen: &mut Seen) {
    if let Some(reason) = text(event, "/promptFeedback/blockReason") {
        seen.refusal = Some(format!("the prompt was blocked ({reason})"));
    }
    if let Some(reason) = text(event, "/candidates/0/finishReason") {
        if GEMINI_REFUSALS.contains(&reason) {
            seen.refusal = Some(format!("the answer was stopped ({reason})"));
        }
        seen.stopped(reason);
    }
}

fn text<'a>(event: &'a Value, path: &str) -> Option<&'a str> {
    event
        .pointer(path)?
        .as_str()
        .filter(|text| !text.is_empty())
}

/// One name for the reasons that every vendor has: `stop`, and `length` for an answer that was cut. Others stay as they are.
fn plain(reason: &str) -> String {
    match reason {
        "stop" | "end_turn" | "stop_sequence" | "STOP" | "eos" | "eos_token" => "stop".to_owned(),
        "length" | "max_tokens" | "model_context_window_exceeded" | "MAX_TOKENS" => {
            "length".to_owned()
        }
        other => other.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_of_zeros_is_refused_before_it_is_parsed_and_a_vector_is_not() {
        let list = |number: &str| format!("[{}0]", number.repeat(1_000_000));
        assert!(parse(list("0,").as_bytes()).is_err());
        assert!(parse(list("0.0123456,").as_bytes()).is_ok());
    }

    fn read(vendor: Vendor, events: &[Value]) -> (FrameReader, Vec<Flow>) {
        let mut reader = FrameReader::new(vendor, Progress::default(), Instant::now());
        let flows = events
            .iter()
            .map(|event| reader.read(event.to_string().as_bytes()).unwrap())
            .collect();
        (reader, flows)
    }

    #[tokio::test]
    async fn thinking_is_counted_and_is_no_text() {
        let delta = |delta: Value| json!({"choices": [{"delta": delta}]});
        for (vendor, events) in [
            (
                Vendor::OpenAi,
                vec![
                    delta(json!({"reasoning_content": "hmm"})),
                    delta(json!({"reasoning": "hmm", "content": ""})),
                    delta(
                        json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hmm"}]}]}),
                    ),
                    delta(json!({"content": [{"type": "text", "text": "yes"}]})),
                ],
            ),
            (
                Vendor::Anthropic,
                vec![
                    json!({"type": "content_block_delta", "delta": {"thinking": "hmmhmmhmm"}}),
                    json!({"type": "content_block_delta", "delta": {"text": "yes"}}),
                ],
            ),
            (
                Vendor::Gemini,
                vec![json!({"candidates": [{"content": {"parts": [
                    {"text": "hmmhmmhmm", "thought": true}, {"text": "yes"},
                ]}}]})],
            ),
        ] {
            let (reader, _) = read(vendor, &events);
            assert_eq!(reader.seen.text, "yes", "{vendor:?}");
            assert_eq!(reader.progress.state().answer_bytes, 12, "{vendor:?}");
        }
    }

    #[tokio::test]
    async fn an_error_or_the_last_event_ends_the_answer() {
        let (_, flows) = read(
            Vendor::Anthropic,
            &[json!({"type": "ping"}), json!({"type": "message_stop"})],
        );
        assert_eq!(flows, [Flow::More, Flow::End]);
        for vendor in [Vendor::OpenAi, Vendor::Anthropic, Vendor::Gemini] {
            let error = json!({"type": "error", "error": {"message": "m"}});
            let (_, flows) = read(vendor, &[json!({"error": null}), error.clone()]);
            assert_eq!(flows, [Flow::More, Flow::Error(error)]);
        }
        let mut reader = FrameReader::new(Vendor::OpenAi, Progress::default(), Instant::now());
        assert_eq!(reader.read(b"[DONE]").unwrap(), Flow::End);
        let half = br#"{"choices":[{"delta":{"content":"a\ud83d"}}]}"#;
        assert_eq!(reader.read(half).unwrap(), Flow::More);
        assert!(reader.read(b"{\"a\": ").unwrap_err().is_eof());
        assert!(!reader.read(b"nonsense").unwrap_err().is_eof());
    }
}
