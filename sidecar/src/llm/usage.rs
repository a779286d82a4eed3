//! The usage of a call, known while it runs: a call that is refused, breaks off or is cancelled is charged too.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};

/// Tokens of one call. Vendors count cached tokens apart from the others or among them; here they are always among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, cached ones among them.
    pub input: u64,
    /// Tokens of the answer, and of the thinking before it.
    pub output: u64,
    /// How many of the input were read from the vendor's cache.
    pub cache_read: u64,
    /// How many of the input were written to it.
    pub cache_write: u64,
    /// How many of those it keeps for an hour.
    pub cache_write_1h: u64,
    /// How many of the output were spent on thinking.
    pub reasoning: u64,
}

impl Usage {
    /// No cache.
    pub fn new(input: u64, output: u64) -> Self {
        Self {
            input,
            output,
            ..Self::default()
        }
    }

    /// Whether nothing is known to have been used.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// As `private.models_cost` takes it. The model is named with its provider, as in `llm_models`.
    pub fn to_json(self, model: &str) -> Value {
        json!({
            "model": model,
            "input_tokens": self.input,
            "output_tokens": self.output,
            "cache_read_tokens": self.cache_read,
            "cache_write_tokens": self.cache_write,
            "cache_write_1h_tokens": self.cache_write_1h,
            "reasoning_tokens": self.reasoning,
        })
    }
}

/// The state of a call.
#[derive(Debug, Clone, Default)]
pub struct CallState {
    /// What it has used so far.
    pub usage: Usage,
    /// The model that answers, by the vendor's name.
    pub model: Option<String>,
    /// When the first piece of the answer came, from the start of the call.
    pub first_token: Option<Duration>,
    /// Bytes of the answer so far: a call that ends before its vendor counts is charged by them.
    pub answer_bytes: usize,
    /// The service tier that the vendor reports.
    pub service_tier: Option<String>,
}

/// Shared between a call and its handler, which settles it when it is dropped.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    state: Arc<Mutex<CallState>>,
    /// Apart from the state, which is copied.
    text: Arc<Mutex<String>>,
}

impl Progress {
    /// A copy of the state.
    pub fn state(&self) -> CallState {
        self.lock().clone()
    }

    /// Changes the state.
    pub fn update(&self, change: impl FnOnce(&mut CallState)) {
        change(&mut self.lock());
    }

    /// Adds to the text of the answer.
    pub fn push_text(&self, text: &str) {
        self.lock_text().push_str(text);
    }

    /// The text that came since the last time.
    pub fn take_text(&self) -> String {
        std::mem::take(&mut *self.lock_text())
    }

    fn lock(&self) -> MutexGuard<'_, CallState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_text(&self) -> MutexGuard<'_, String> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
