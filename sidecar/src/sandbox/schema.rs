//! Checking an input against a skill's JSON schema.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use super::{prompt::PromptError, violation};

/// So many violations are named; the rest is counted.
const MAX_NAMED: usize = 5;

/// For patterns with look-around or back-references: some milliseconds at most. Other patterns never backtrack and run in
/// linear time.
const BACKTRACKS: usize = 200_000;

/// Compiled patterns and what they cache, in bytes.
const PATTERN_BYTES: usize = 16 << 20;

/// Whether this is a JSON schema.
pub(super) fn check_schema(schema: &Value) -> Result<(), PromptError> {
    validator(schema).map(drop)
}

/// Nothing is fetched (the crate is built without resolvers), and patterns are bounded.
fn validator(schema: &Value) -> Result<Validator, PromptError> {
    jsonschema::options()
        .with_pattern_options(
            PatternOptions::fancy_regex()
                .backtrack_limit(BACKTRACKS)
                .size_limit(PATTERN_BYTES)
                .dfa_size_limit(PATTERN_BYTES),
        )
        .build(schema)
        .map_err(|error| {
            PromptError::InvalidSchema(format!("input_schema: {}", violation::of_schema(&error)))
        })
}

/// Whether the input matches the schema.
pub(super) fn check(schema: &Value, input: &Value) -> Result<(), PromptError> {
    if schema.is_null() {
        return Ok(());
    }
    let validator = validator(schema)?;
    let mut violations = validator.iter_errors(input);
    let named: Vec<String> = violations
        .by_ref()
        .take(MAX_NAMED)
        .map(|error| violation::of_input(&error))
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
        assert!(check(&schema, &json!({"s": format!("{}!", "a".repeat(5_000))})).is_err());
        assert_eq!(check(&schema, &json!({"s": "a".repeat(5_000)})), Ok(()));
    }

    #[test]
    fn patterns_look_around_as_json_schema_says() {
        let schema = json!({"properties": {"s": {"pattern": "^(?!eo:)"}, "t": {"pattern": "(?<=\\$)\\d+$"}}});
        assert_eq!(check(&schema, &json!({"s": "en:x", "t": "$5"})), Ok(()));
        for input in [json!({"s": "eo:x"}), json!({"t": "5"})] {
            assert!(matches!(
                check(&schema, &input),
                Err(PromptError::InvalidInput(_))
            ));
        }
        let names = json!({"patternProperties": {"^(?!x-)": {"type": "integer"}}});
        assert_eq!(check(&names, &json!({"x-a": "any", "a": 1})), Ok(()));
        assert!(check(&names, &json!({"a": "any"})).is_err());
    }

    #[test]
    fn backtracking_is_given_up_and_is_no_match() {
        let schema = json!({"properties": {"s": {"pattern": "^(?=a)(a+)+$"}}});
        let long = json!({"s": format!("{}!", "a".repeat(5_000))});
        assert!(matches!(
            check(&schema, &long),
            Err(PromptError::InvalidInput(_))
        ));
    }

    #[test]
    fn a_pattern_that_cannot_be_compiled_is_the_schemas_fault() {
        for pattern in ["(", "(?<n>a)\\k<m>", "(a{1000}){1000}{1000}"] {
            let schema = json!({"properties": {"s": {"pattern": pattern}}});
            assert!(
                matches!(
                    check(&schema, &json!({"s": "a"})),
                    Err(PromptError::InvalidSchema(_))
                ),
                "{pattern}"
            );
        }
    }

    #[test]
    fn large_numbers_are_compared_by_all_their_digits() {
        let schema: Value = serde_json::from_str(
            r#"{"properties": {"n": {"type": "integer", "maximum": 18446744073709551616}}}"#,
        )
        .unwrap();
        let input = |n: &str| serde_json::from_str(&format!("{{\"n\": {n}}}")).unwrap();
        assert_eq!(check(&schema, &input("18446744073709551616")), Ok(()));
        assert!(check(&schema, &input("18446744073709551617")).is_err());
        assert!(check(&schema, &input("1.5")).is_err());
    }
}
