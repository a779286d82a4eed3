//! The call of an attempt, from its reservation until what it used is recorded.

use std::time::{Duration, Instant, SystemTime};

use kijko_core::jobs::Job;
use serde_json::Value;
use uuid::Uuid;

use super::output::settlement;
use crate::llm::{CallState, Progress, Usage, tokens_of_bytes};

/// The usage of a call is kept this long for its record; afterwards its lease has long gone to another worker.
pub(super) const OPEN_CALL_TTL: Duration = Duration::from_secs(3_600);

/// A job, and which attempt of it.
pub(super) type Attempt = (Uuid, i32);

pub(super) fn attempt(job: &Job) -> Attempt {
    (job.id, job.attempt)
}

/// A call whose attempt has not been recorded yet. It is kept here and not in the call's future, which is dropped when
/// the job is cancelled or runs out of time: what it used until then is paid for.
pub(super) struct OpenCall {
    pub id: Uuid,
    pub since: Instant,
    pub start: SystemTime,
    /// What is reserved for it.
    pub max_usage: Usage,
    pub provider: &'static str,
    pub model: String,
    pub progress: Progress,
}

/// The call of an attempt.
pub(super) struct CallEnd {
    pub id: Uuid,
    pub start: SystemTime,
    pub provider: &'static str,
    pub model: String,
    pub max_output_tokens: u64,
    /// What is charged.
    pub usage: Usage,
    pub state: CallState,
}

impl OpenCall {
    /// A vendor that counts only at the end of its answer has reported nothing when the call ends early. The received part
    /// was paid for, so it is estimated.
    fn charged(&self, state: &CallState) -> Usage {
        match state.answer_bytes {
            received if state.usage.is_empty() && received > 0 => {
                Usage::new(self.max_usage.input, tokens_of_bytes(received))
            }
            _ => state.usage,
        }
    }

    /// For its span.
    pub(super) fn end(self) -> CallEnd {
        let state = self.progress.state();
        CallEnd {
            id: self.id,
            start: self.start,
            provider: self.provider,
            usage: self.charged(&state),
            model: self.model,
            max_output_tokens: self.max_usage.output,
            state,
        }
    }

    pub(super) fn usage(&self) -> Value {
        let state = self.progress.state();
        let usage = self.charged(&state);
        let model = state.model.as_ref().unwrap_or(&self.model);
        let model = format!("{}/{model}", self.provider);
        settlement(self.id, usage, &model, state.service_tier)
    }
}
