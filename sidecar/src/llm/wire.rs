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
        self.progress.update(|reached| {
            match self.vendor {
                Vendor::OpenAi => openai(&event, &mut seen, &mut reached.usage),
                Vendor::Anthropic => anthropic(&event, &mut seen, &mut reached.usage),
                Vendor::Gemini => gemini(&event, &mut seen, &mut reached.usage),
            }
            let model = ["/model", "/message/model", "/modelVersion"];
            let named = model.iter().find_map(|path| event.pointer(path)?.as_str());
            if let Some(name) = named.filter(|name| !name.is_empty()) {
                reached.model = Some(name.to_owned());
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
        seen.finish_reason = Some(plain(reason));
    }
    // Cached tokens are among the prompt's, thinking among the completion's.
    if let Some(told) = event.get("usage").filter(|told| told.is_object()) {
        set(&mut usage.input, told, "/prompt_tokens");
        set(&mut usage.output, told, "/completion_tokens");
        set(
            &mut usage.cache_read,
            told,
            "/prompt_tokens_details/cached_tokens",
        );
        set(
            &mut usage.cache_write,
            told,
            "/prompt_tokens_details/cache_write_tokens",
        );
    }
}

fn anthropic(event: &Value, seen: &mut Seen, usage: &mut Usage) {
    if let Some(reason) = text(event, "/delta/stop_reason") {
        if reason == "refusal" {
            seen.refusal.get_or_insert_default();
        }
        seen.finish_reason = Some(plain(reason));
    }
    // At the start with the prompt's tokens, at the end once more with the answer's; both are totals so far.
    let told = event
        .pointer("/message/usage")
        .or_else(|| event.get("usage"));
    if let Some(told) = told.filter(|told| told.is_object()) {
        // Cached tokens are counted apart from the others.
        let mut uncached = usage
            .input
            .saturating_sub(usage.cache_read + usage.cache_write);
        set(&mut uncached, told, "/input_tokens");
        set(&mut usage.cache_read, told, "/cache_read_input_tokens");
        set(&mut usage.cache_write, told, "/cache_creation_input_tokens");
        set(
            &mut usage.cache_write_1h,
            told,
            "/cache_creation/ephemeral_1h_input_tokens",
        );
        set(&mut usage.output, told, "/output_tokens");
        usage.input = uncached + usage.cache_read + usage.cache_write;
    }
}

fn gemini(event: &Value, seen: &mut Seen, usage: &mut Usage) {
    if let Some(reason) = text(event, "/promptFeedback/blockReason") {
        seen.refusal = Some(format!("the prompt was blocked ({reason})"));
    }
    if let Some(reason) = text(event, "/candidates/0/finishReason") {
        if matches!(
            reason,
            "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "IMAGE_SAFETY"
        ) {
            seen.refusal = Some(format!("the answer was stopped ({reason})"));
        }
        seen.finish_reason = Some(plain(reason));
    }
    // With every event, totals so far. Cached tokens are among the prompt's, tools' and thinking apart.
    if let Some(told) = event.get("usageMetadata").filter(|told| told.is_object()) {
        let count = |path: &str| told.get(path).and_then(Value::as_u64).unwrap_or(0);
        usage.input = count("promptTokenCount") + count("toolUsePromptTokenCount");
        usage.output = count("candidatesTokenCount") + count("thoughtsTokenCount");
        usage.cache_read = count("cachedContentTokenCount");
    }
}

fn text<'a>(event: &'a Value, path: &str) -> Option<&'a str> {
    event
        .pointer(path)?
        .as_str()
        .filter(|text| !text.is_empty())
}

fn set(count: &mut u64, told: &Value, path: &str) {
    if let Some(value) = told.pointer(path).and_then(Value::as_u64) {
        *count = value;
    }
}

/// One word for what every vendor has: `stop`, and `length` for an answer that was cut. The rest stays theirs.
fn plain(reason: &str) -> String {
    match reason {
        "stop" | "end_turn" | "stop_sequence" | "STOP" => "stop".to_owned(),
        "length" | "max_tokens" | "model_context_window_exceeded" | "MAX_TOKENS" => {
            "length".to_owned()
        }
        other => other.to_ascii_lowercase(),
    }
}
