//! What a skill's parameters mean for every vendor.

use serde_json::{Map, Value};

use super::error::{LlmError, LlmFault};

/// The longest answer that a skill allows: its `max_tokens` or `max_completion_tokens`, or else this default, which is no
/// more than the model gives. Anthropic's thinking has a budget of its own and comes on top of the default.
pub fn max_tokens(
    parameters: &Map<String, Value>,
    default: u64,
    model_max: Option<u64>,
) -> Result<u64, LlmError> {
    let mut given = None;
    for name in ["max_tokens", "max_completion_tokens"] {
        match parameters.get(name) {
            None | Some(Value::Null) => {}
            Some(value) => given = given.max(Some(whole(name, value)?)),
        }
    }
    let thinking = parameters
        .get("thinking")
        .and_then(|thinking| thinking.get("budget_tokens")?.as_u64())
        .unwrap_or(0);
    Ok(given.unwrap_or_else(|| {
        let default = default.saturating_add(thinking);
        model_max.map_or(default, |max| default.min(max))
    }))
}

fn whole(name: &str, value: &Value) -> Result<u64, LlmError> {
    let number = value.as_u64().or_else(|| {
        value
            .as_f64()
            .filter(|n| n.fract() == 0.0)
            .map(|n| n as u64)
    });
    number
        .filter(|number| (1..=10_000_000).contains(number))
        .ok_or_else(|| {
            LlmError::new(
                LlmFault::Rejected,
                format!("{name}: a whole number from 1 to 10,000,000"),
            )
        })
}

/// `"response_format"` is `"json"`, `"json_object"`, `"json_schema"`, or an object with one of these as its `type`.
pub fn is_json_format(format: &Value) -> bool {
    let kind = format.get("type").unwrap_or(format).as_str();
    matches!(kind, Some("json" | "json_object" | "json_schema"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_answer_is_the_skills_or_the_default() {
        let most = |parameters: Value, model: Option<u64>| {
            max_tokens(parameters.as_object().unwrap(), 8_192, model).ok()
        };
        for (parameters, model, wanted) in [
            (serde_json::json!({}), None, Some(8_192)),
            (serde_json::json!({}), Some(4_096), Some(4_096)),
            (
                serde_json::json!({"max_tokens": null}),
                Some(64_000),
                Some(8_192),
            ),
            (serde_json::json!({"max_tokens": 50}), Some(20), Some(50)),
            (
                serde_json::json!({"max_tokens": 50, "max_completion_tokens": 70}),
                None,
                Some(70),
            ),
            (serde_json::json!({"max_tokens": 50.0}), None, Some(50)),
            (
                serde_json::json!({"thinking": {"budget_tokens": 10_000}}),
                Some(64_000),
                Some(18_192),
            ),
            (serde_json::json!({"max_tokens": "50"}), None, None),
            (serde_json::json!({"max_tokens": 0}), None, None),
            (serde_json::json!({"max_completion_tokens": -1}), None, None),
            (serde_json::json!({"max_tokens": 1.5}), None, None),
        ] {
            assert_eq!(most(parameters.clone(), model), wanted, "{parameters}");
        }
    }
}
