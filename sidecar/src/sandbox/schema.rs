//! Checking an input against a skill's JSON schema.

use jsonschema::PatternOptions;
use serde_json::Value;

use super::PromptError;

/// So many violations are named; the rest is counted.
const NAMED: usize = 5;

/// The longest description of one violation: it may quote the input.
const LONGEST: usize = 300;

/// Nothing is fetched (the crate is built without resolvers), and patterns run in linear time.
pub(super) fn check(schema: &Value, input: &Value) -> Result<(), PromptError> {
    if schema.is_null() {
        return Ok(());
    }
    let validator = jsonschema::options()
        .with_pattern_options(PatternOptions::regex())
        .build(schema)
        .map_err(|error| {
            PromptError::InvalidSchema(format!("input_schema: {}", short(&error.to_string())))
        })?;
    let mut violations = validator.iter_errors(input);
    let named: Vec<String> = violations
        .by_ref()
        .take(NAMED)
        .map(|error| match error.instance_path().to_string() {
            path if path.is_empty() => short(&error.to_string()),
            path => format!("{path}: {}", short(&error.to_string())),
        })
        .collect();
    match (named.is_empty(), violations.count()) {
        (true, _) => Ok(()),
        (false, 0) => Err(PromptError::InvalidInput(named.join("; "))),
        (false, more) => Err(PromptError::InvalidInput(format!(
            "{}; and {more} more",
            named.join("; ")
        ))),
    }
}

fn short(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        text.to_owned()
    } else {
        text.chars().take(LONGEST).chain("…".chars()).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_input_that_matches_passes() {
        let schema = json!({"type": "object", "required": ["topic"], "properties": {"topic": {"type": "string", "minLength": 1}}});
        assert_eq!(check(&schema, &json!({"topic": "Rust", "more": 1})), Ok(()));
        assert_eq!(check(&json!({}), &json!({"anything": [1]})), Ok(()));
        assert_eq!(check(&Value::Null, &json!({})), Ok(()));
    }

    #[test]
    fn violations_name_their_place() {
        let schema = json!({"properties": {"n": {"type": "integer"}}, "required": ["topic"]});
        let Err(PromptError::InvalidInput(message)) = check(&schema, &json!({"n": "x"})) else {
            panic!("it should not match")
        };
        assert!(
            message.contains("/n: ") && message.contains("topic"),
            "{message}"
        );
    }

    #[test]
    fn a_long_list_of_violations_is_cut() {
        let schema = json!({"additionalProperties": {"type": "integer"}});
        let input: Value = (0..50)
            .map(|n| (format!("k{n}"), json!("x".repeat(10_000))))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let Err(PromptError::InvalidInput(message)) = check(&schema, &input) else {
            panic!("it should not match")
        };
        assert!(
            message.ends_with("; and 45 more") && message.len() < 3_000,
            "{message}"
        );
    }

    #[test]
    fn a_wrong_schema_is_the_schemas_fault() {
        assert!(matches!(
            check(&json!({"type": "strnig"}), &json!({})),
            Err(PromptError::InvalidSchema(_))
        ));
    }

    #[test]
    fn nothing_is_fetched() {
        for reference in ["https://schemas.example/x.json", "file:///etc/passwd"] {
            let result = check(&json!({"$ref": reference}), &json!({}));
            assert!(
                matches!(result, Err(PromptError::InvalidSchema(_))),
                "{result:?}"
            );
        }
    }

    #[test]
    fn patterns_cannot_backtrack() {
        let schema = json!({"properties": {"s": {"pattern": "^(a+)+$"}}});
        let start = std::time::Instant::now();
        assert!(check(&schema, &json!({"s": format!("{}!", "a".repeat(5_000))})).is_err());
        assert!(start.elapsed().as_secs() < 2);
    }
}
