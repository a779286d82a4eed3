//! From a model's answer to `executions.output`.

use kijko_core::jobs::{Failure, queue::without_nul};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::llm::{Completion, Usage, is_json_format};

/// The argument of `private.executions_finish`. The model is named with its provider, as in `llm_models`.
pub(super) fn outcome(
    provider: &str,
    call_id: Uuid,
    service_tier: Option<String>,
    completion: Completion,
    wants_json: bool,
) -> Result<Value, Failure> {
    let mut output = json!({"text": without_nul(&completion.text)});
    if wants_json {
        output["json"] = parse_json(&completion)?;
    }
    let model = format!("{provider}/{}", completion.model);
    let mut outcome = settlement(call_id, completion.usage, &model, service_tier);
    outcome["output"] = output;
    outcome["finish_reason"] = json!(completion.finish_reason);
    Ok(outcome)
}

/// What a call used, as `private.executions_settle_call` takes it.
pub(super) fn settlement(
    call_id: Uuid,
    usage: Usage,
    model: &str,
    service_tier: Option<String>,
) -> Value {
    let mut settlement = usage.to_json(model);
    settlement["call_id"] = json!(call_id);
    settlement["service_tier"] = json!(service_tier);
    settlement
}

/// A skill that asked for JSON gets JSON or an error, never text that looks like JSON. An answer cut at the token limit would be
/// cut again; any other may be correct at the next attempt.
fn parse_json(completion: &Completion) -> Result<Value, Failure> {
    if let Ok(value) = serde_json::from_str(unfenced(&without_nul(&completion.text)))
        && fits_jsonb(&value)
    {
        return Ok(value);
    }
    let cut = completion.finish_reason.as_deref() == Some("length");
    Err(match cut {
        true => Failure::permanent(
            "output_truncated",
            "the JSON was cut at the token limit; raise max_tokens",
        ),
        false => Failure::transient(
            "vendor_malformed",
            "the model was asked for JSON and answered something else",
        ),
    })
}

/// Models like to put their JSON into a code fence, whatever they were asked for.
fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let Some(fenced) = text
        .strip_prefix("```")
        .and_then(|rest| rest.strip_suffix("```"))
    else {
        return text;
    };
    match fenced.split_once('\n') {
        Some((language, json)) if language.trim().chars().all(char::is_alphanumeric) => json,
        _ => fenced,
    }
}

/// `\u0000` is valid JSON and no valid jsonb, and so is a number beyond what numeric holds.
fn fits_jsonb(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.contains('\0'),
        Value::Number(number) => is_moderate(&number.to_string()),
        Value::Array(items) => items.iter().all(fits_jsonb),
        Value::Object(members) => members
            .iter()
            .all(|(name, value)| !name.contains('\0') && fits_jsonb(value)),
        _ => true,
    }
}

/// Far within numeric's 131,072 digits before the point and 16,383 after it.
fn is_moderate(number: &str) -> bool {
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    digits.len() <= 10_000 && exponent.parse::<i32>().is_ok_and(|e| e.abs() <= 5_000)
}

pub(super) fn wants_json(parameters: &Map<String, Value>) -> bool {
    parameters
        .get("response_format")
        .is_some_and(is_json_format)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion(text: &str, finish_reason: &str) -> Completion {
        Completion {
            text: text.into(),
            model: "m-1".into(),
            usage: Usage::new(3, 4),
            finish_reason: Some(finish_reason.into()),
        }
    }

    fn ended(completion: Completion, wants_json: bool) -> Result<Value, Failure> {
        outcome("echo", Uuid::nil(), None, completion, wants_json)
    }

    #[test]
    fn json_in_a_code_fence_is_read() {
        for text in [
            "{\"a\": 1}",
            "```json\n{\"a\": 1}\n```",
            "\n```\n{\"a\": 1}\n```\n",
            "```JSON\r\n{\"a\": 1}```",
            "```{\"a\": 1}```",
        ] {
            let outcome = ended(completion(text, "stop"), true).unwrap();
            assert_eq!(outcome["output"]["json"], json!({"a": 1}), "{text}");
            assert_eq!(outcome["output"]["text"], json!(text));
        }
        for text in ["Here: ```json\n{}\n```", "```json\n{}", "```json {}```x"] {
            assert!(ended(completion(text, "stop"), true).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_keep_their_digits_and_those_that_no_jsonb_holds_are_refused() {
        let text = r#"{"a": 18446744073709551616, "b": 12345678901234.123456}"#;
        let outcome = ended(completion(text, "stop"), true).unwrap();
        assert!(outcome.to_string().contains("18446744073709551616"));
        assert!(outcome.to_string().contains("12345678901234.123456"));
        for text in ["1e999999", "1e-999999", "[1e99999999999]"] {
            assert!(ended(completion(text, "stop"), true).is_err(), "{text}");
        }
    }

    #[test]
    fn the_outcome_names_model_tokens_and_text() {
        let outcome = ended(completion("hello\0", "stop"), false).unwrap();
        assert_eq!(outcome["output"], json!({"text": "hello\u{fffd}"}));
        assert_eq!(
            (&outcome["model"], &outcome["input_tokens"]),
            (&json!("echo/m-1"), &json!(3))
        );
    }

    #[test]
    fn json_is_parsed_when_it_was_asked_for() {
        let asked =
            |value: Value| wants_json(json!({"response_format": value}).as_object().unwrap());
        assert!(asked(json!("json")) && asked(json!({"type": "json_schema", "json_schema": {}})));
        assert!(
            !asked(json!("text")) && !asked(json!({"type": "text"})) && !wants_json(&Map::new())
        );
        assert_eq!(
            ended(completion(r#"{"a": 1}"#, "stop"), true).unwrap()["output"]["json"],
            json!({"a": 1})
        );
    }

    #[test]
    fn an_answer_that_is_no_json_is_a_failure() {
        let cut = ended(completion(r#"{"a": "#, "length"), true).unwrap_err();
        assert_eq!(
            (cut.code.as_ref(), cut.retryable),
            ("output_truncated", false)
        );
        for text in ["sorry", r#"{"a": "\u0000"}"#] {
            let wrong = ended(completion(text, "stop"), true).unwrap_err();
            assert_eq!(
                (wrong.code.as_ref(), wrong.retryable),
                ("vendor_malformed", true)
            );
        }
    }
}
