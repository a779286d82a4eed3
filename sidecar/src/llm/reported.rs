//! The usage that a vendor's event or answer reports. Vendors report running totals, in one message or in several.

use serde_json::Value;

use super::{usage::Usage, vendor::Vendor};

/// Takes in what an event says of usage, if anything.
pub(crate) fn read(vendor: Vendor, event: &Value, usage: &mut Usage) {
    match vendor {
        Vendor::OpenAi => openai(event, usage),
        Vendor::Anthropic => anthropic(event, usage),
        Vendor::Gemini => gemini(event, usage),
    }
}

fn openai(event: &Value, usage: &mut Usage) {
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

/// Some services that speak OpenAI's protocol count thinking beside the completion; only their total includes it.
fn completion(count: &impl Fn(&str) -> u64, reasoning: u64) -> u64 {
    let completion = count("/completion_tokens");
    let by_total = count("/total_tokens").saturating_sub(count("/prompt_tokens"));
    let apart = if reasoning > completion { reasoning } else { 0 };
    completion.saturating_add(apart).max(by_total)
}

fn anthropic(event: &Value, usage: &mut Usage) {
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

fn gemini(event: &Value, usage: &mut Usage) {
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

/// A smaller figure does not lower one that was reported before.
fn grow(count: &mut u64, value: u64) {
    *count = value.max(*count);
}
