//! What is settled: the record of a call that has ended.

use std::time::Duration;

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

/// As `jsonb` can hold it: it takes no NUL in a text and no number beyond its own. Texts of numbers replace those.
fn kept(value: Value) -> Value {
    let text = |text: String| match text.contains('\0') {
        true => text.replace('\0', "\u{fffd}"),
        false => text,
    };
    match value {
        Value::String(it) => Value::String(text(it)),
        Value::Number(number) if !is_storable(&number.to_string()) => {
            Value::String(number.to_string())
        }
        Value::Array(items) => items.into_iter().map(kept).collect(),
        Value::Object(members) => {
            let members = members.into_iter();
            members.map(|(name, it)| (text(name), kept(it))).collect()
        }
        other => other,
    }
}

/// Postgres' numbers have far more digits than any that means something.
fn is_storable(number: &str) -> bool {
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent = exponent.parse::<i32>();
    digits.len() <= 400 && exponent.is_ok_and(|it| (-308..=308).contains(&it))
}

impl Ended<'_> {
    /// What is held for its last attempt.
    pub(super) fn input_tokens(&self) -> u64 {
        self.opened.input_tokens_of(self.target)
    }

    /// What `llm_settle_many` takes for a call.
    pub(super) fn usage(&self, end: &End) -> Value {
        let attempt = self.attempt;
        let spent = attempt.spent(self.input_tokens());
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
            usage["prompt"] = self.request.prompt();
            usage["answer"] = self.answer();
        }
        kept(usage)
    }

    /// The choices as far as they came. Vectors and pictures are not kept.
    pub(super) fn answer(&self) -> Value {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_jsonb_cannot_hold_becomes_a_text() {
        for (number, fits) in [
            ("1e999999", false),
            ("-1E+400", false),
            ("1e-999999", false),
            ("1e308", true),
            ("-1.5e-3", true),
            ("12345678901234567890", true),
            ("0", true),
        ] {
            let given = serde_json::from_str(&format!("{{\"a\":[{number}]}}")).unwrap();
            let kept = kept(given);
            assert_eq!(kept["a"][0].is_number(), fits, "{kept}");
            assert_eq!(kept["a"][0].is_string(), !fits, "{kept}");
        }
        let given = json!({"a\0": ["x\0y", null, true, "é"]});
        let wanted = json!({"a\u{fffd}": ["x\u{fffd}y", null, true, "é"]});
        assert_eq!(kept(given), wanted);
        let long = format!("0.{}1", "0".repeat(20_000));
        assert!(!is_storable(&long) && is_storable("1e+5") && !is_storable("1e99999999999"));
    }
}
