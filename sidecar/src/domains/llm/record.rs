//! What is settled: the record of a call that has ended.

use std::{borrow::Cow, time::Duration};

use kijko_core::db::storable;
use serde_json::{Value, json};

use super::{
    attempt::Attempt,
    error::ApiError,
    output::Output,
    request::Request,
    store::{Opened, Spent},
};

/// How a call ended.
pub(super) enum End {
    Answered,
    Failed(ApiError),
    /// The client hung up, or the process stops.
    Cut(&'static str),
}

/// What is known at the end.
pub(super) struct Ended<'a> {
    pub request: &'a Request,
    pub opened: &'a Opened,
    /// The last one.
    pub attempt: &'a Attempt,
    /// The index of its target.
    pub target: i32,
    pub attempts: u32,
    pub first_token: Option<Duration>,
    pub output: &'a Output,
    pub total: Duration,
}

/// Postgres takes no NUL and no half of a surrogate pair in a text.
fn kept(value: Value) -> Value {
    let text = value.to_string();
    match storable(&text) {
        Cow::Owned(text) => serde_json::from_str(&text).unwrap_or_default(),
        Cow::Borrowed(_) => value,
    }
}

impl Ended<'_> {
    /// The argument of `llm_settle`.
    pub(super) fn usage(&self, end: &End) -> Value {
        let attempt = self.attempt;
        let spent = attempt.spent(self.opened.input_tokens);
        let mut usage = spent.counts();
        // Nothing is nothing, whichever target is held for.
        let target = (spent != Spent::Nothing).then_some(self.target);
        let (status, http_status, code) = match end {
            End::Answered => ("succeeded", 200, None),
            End::Failed(error) => {
                let status = match self.output.has_begun() {
                    true => 200,
                    false => error.status.as_u16(),
                };
                ("failed", status, Some(error.code.as_str()))
            }
            End::Cut(code) => ("cancelled", 499, Some(*code)),
        };
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let reader = &attempt.reader;
        for (name, value) in [
            ("status", json!(status)),
            ("http_status", json!(http_status)),
            ("error_code", json!(code)),
            ("target_index", json!(target)),
            ("model", json!(reader.model)),
            (
                "images",
                json!((attempt.images > 0).then_some(attempt.images)),
            ),
            ("attempts", json!(self.attempts)),
            ("finish_reason", json!(reader.tally.finish_reason())),
            ("service_tier", json!(reader.extra.get("service_tier"))),
            ("first_token_ms", json!(self.first_token.map(millis))),
            ("total_ms", json!(millis(self.total))),
        ] {
            if !value.is_null() {
                usage[name] = value;
            }
        }
        if self.opened.record_content {
            usage["prompt"] = kept(self.request.prompt());
            usage["answer"] = kept(self.answer());
        }
        usage
    }

    /// The choices as far as they came. Vectors and pictures are not kept.
    fn answer(&self) -> Value {
        match (self.request, &self.output.whole) {
            (Request::Chat(_), Some(whole)) => whole["choices"].clone(),
            (Request::Chat(_), None) => {
                let assembly = self.output.assembly.clone();
                assembly.map(|it| json!(it.choices())).unwrap_or_default()
            }
            _ => Value::Null,
        }
    }
}
