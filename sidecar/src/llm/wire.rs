//! What we read from a vendor's events ourselves, beside the client crate, which hands us each one as it came: its
//! normalized view has no refusal, no model that answered, and no usage before the end of a stream, and a stream that
//! breaks off has no end.

use std::sync::{Mutex, MutexGuard, PoisonError};

use genai::chat::{ChatFrameSink, FrameCtx, RawFrameRef};
use serde_json::Value;

use super::{
    usage::{Progress, Usage},
    vendor::Vendor,
};

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

/// Reads the events of one call.
#[derive(Debug)]
pub(super) struct Watch {
    vendor: Vendor,
    progress: Progress,
    seen: Mutex<Seen>,
}

/// What they have said so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Events that held something.
    pub events: usize,
    /// Why the model stopped; without it the stream broke off.
    pub finish_reason: Option<String>,
    /// It declined, in its words if it had any.
    pub refusal: Option<String>,
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

impl Watch {
    pub(super) fn new(vendor: Vendor, progress: Progress) -> Self {
        Self {
            vendor,
            progress,
            seen: Mutex::default(),
        }
    }

    pub(super) fn seen(&self) -> Seen {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ChatFrameSink for Watch {
    fn on_frame(&self, _: &FrameCtx, frame: RawFrameRef<'_>) {
        let mut seen = self.lock();
        if frame.data.is_empty() {
            return;
        }
        seen.events += 1;
        let Some(event) = frame.json() else {
            return;
        };
        self.progress.update(|state| {
            match self.vendor {
                Vendor::OpenAi => openai(&event, &mut seen, &mut state.usage),
                Vendor::Anthropic => anthropic(&event, &mut seen, &mut state.usage),
                Vendor::Gemini => gemini(&event, &mut seen, &mut state.usage),
            }
            if let Some(tier) = text(&event, "/service_tier") {
                state.service_tier = Some(tier.to_owned());
            }
            let model = ["/model", "/message/model", "/modelVersion"];
            let named = model.iter().find_map(|path| event.pointer(path)?.as_str());
            if let Some(name) = named.filter(|name| !name.is_empty()) {
                state.model = Some(name.to_owned());
            }
        });
    }
}

fn openai(event: &Value, seen: &mut Seen, usage: &mut Usage) {
    if let Some(said) = text(event, "/choices/0/delta/refusal") {
        seen.refusal.get_or_insert_default().push_str(said);
    }
    if let Some(reason) = text(event, "/choices/0/finish_reason") {
        if reason == "content_filter" {
            seen.refusal.get_or_insert_default();
        }
        seen.stopped(reason);
    }
    // Cached tokens are among the prompt's, thinking among the completion's.
    if let Some(reported) = event.get("usage").filter(|reported| reported.is_object()) {
        let count = |path: &str| reported.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        let reasoning = count("/completion_tokens_details/reasoning_tokens");
        grow(&mut usage.input, count("/prompt_tokens"));
        grow(&mut usage.reasoning, reasoning);
        grow(&mut usage.output, completion(&count, reasoning));
        grow(
            &mut usage.cache_read,
            count("/prompt_tokens_details/cached_tokens"),
        );
        grow(
            &mut usage.cache_write,
            count("/prompt_tokens_details/cache_write_tokens"),
        );
    }
}

/// Some services that speak OpenAI's protocol count thinking beside the completion, and only their total tells.
fn completion(count: &impl Fn(&str) -> u64, reasoning: u64) -> u64 {
    let completion = count("/completion_tokens");
    let by_total = count("/total_tokens").saturating_sub(count("/prompt_tokens"));
    let apart = if reasoning > completion { reasoning } else { 0 };
    completion.saturating_add(apart).max(by_total)
}

fn anthropic(event: &Value, seen: &mut Seen, usage: &mut Usage) {
    if let Some(reason) = text(event, "/delta/stop_reason") {
        if reason == "refusal" {
            seen.refusal.get_or_insert_default();
        }
        seen.stopped(reason);
    }
    // At the start with the prompt's tokens, at the end once more with the answer's; both are totals so far.
    let reported = event
        .pointer("/message/usage")
        .or_else(|| event.get("usage"));
    if let Some(reported) = reported.filter(|reported| reported.is_object()) {
        let count = |path: &str| reported.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        // Cached tokens are counted apart from the others.
        let mut uncached = usage
            .input
            .saturating_sub(usage.cache_read.saturating_add(usage.cache_write));
        grow(&mut uncached, count("/input_tokens"));
        grow(&mut usage.cache_read, count("/cache_read_input_tokens"));
        grow(
            &mut usage.cache_write,
            count("/cache_creation_input_tokens"),
        );
        grow(
            &mut usage.cache_write_1h,
            count("/cache_creation/ephemeral_1h_input_tokens"),
        );
        grow(&mut usage.output, count("/output_tokens"));
        usage.input = uncached
            .saturating_add(usage.cache_read)
            .saturating_add(usage.cache_write);
    }
}

fn gemini(event: &Value, seen: &mut Seen, usage: &mut Usage) {
    if let Some(reason) = text(event, "/promptFeedback/blockReason") {
        seen.refusal = Some(format!("the prompt was blocked ({reason})"));
    }
    if let Some(reason) = text(event, "/candidates/0/finishReason") {
        if GEMINI_REFUSALS.contains(&reason) {
            seen.refusal = Some(format!("the answer was stopped ({reason})"));
        }
        seen.stopped(reason);
    }
    // With every event, totals so far. Cached tokens are among the prompt's, tools' and thinking apart.
    if let Some(reported) = event
        .get("usageMetadata")
        .filter(|reported| reported.is_object())
    {
        let count = |path: &str| reported.get(path).and_then(Value::as_u64).unwrap_or(0);
        let mut spoken = usage.output.saturating_sub(usage.reasoning);
        grow(&mut spoken, count("candidatesTokenCount"));
        grow(&mut usage.reasoning, count("thoughtsTokenCount"));
        usage.output = spoken.saturating_add(usage.reasoning);
        grow(
            &mut usage.input,
            count("promptTokenCount").saturating_add(count("toolUsePromptTokenCount")),
        );
        grow(&mut usage.cache_read, count("cachedContentTokenCount"));
    }
}

fn text<'a>(event: &'a Value, path: &str) -> Option<&'a str> {
    event
        .pointer(path)?
        .as_str()
        .filter(|text| !text.is_empty())
}

/// Vendors report running totals, so a smaller figure does not lower one that was reported before.
fn grow(count: &mut u64, value: u64) {
    *count = value.max(*count);
}

/// One word for what every vendor has: `stop`, and `length` for an answer that was cut. The rest stays theirs.
fn plain(reason: &str) -> String {
    match reason {
        "stop" | "end_turn" | "stop_sequence" | "STOP" | "eos" | "eos_token" => "stop".to_owned(),
        "length" | "max_tokens" | "model_context_window_exceeded" | "MAX_TOKENS" => {
            "length".to_owned()
        }
        other => other.to_ascii_lowercase(),
    }
}
