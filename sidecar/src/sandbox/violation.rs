//! Words for what a schema refuses. They are ours: the library's may change with each version, and quote the input.

use jsonschema::{
    ValidationError,
    error::{TypeKind, ValidationErrorKind as Kind},
};
use serde_json::Value;

/// Names and values of the schema are quoted up to so many characters, and so many names.
const MAX_QUOTED_CHARS: usize = 100;
const MAX_NAMES: usize = 5;

/// Where the input breaks which rule: `/n: must be integer`.
pub(super) fn of_input(error: &ValidationError<'_>) -> String {
    at(error, rule(error.kind()))
}

/// Why this is no schema, and where: `/properties/n/type: …`.
pub(super) fn of_schema(error: &ValidationError<'_>) -> String {
    at(error, fault(error.kind()))
}

fn at(error: &ValidationError<'_>, text: String) -> String {
    match error.instance_path().to_string() {
        path if path.is_empty() => text,
        path => format!("{}: {text}", quoted(&path)),
    }
}

fn fault(kind: &Kind) -> String {
    match kind {
        Kind::Referencing(_) => {
            "a $ref or $schema names what is not in this schema; nothing is fetched".to_owned()
        }
        Kind::Format { format } if format == "regex" => unusable_pattern(),
        Kind::Pattern { .. }
        | Kind::BacktrackLimitExceeded { .. }
        | Kind::RegexEngineFailure { .. } => unusable_pattern(),
        other => format!("JSON Schema does not allow this here ({})", other.keyword()),
    }
}

fn unusable_pattern() -> String {
    "the pattern is no regular expression, or too large a one".to_owned()
}

fn rule(kind: &Kind) -> String {
    match kind {
        Kind::Type { kind } => format!("must be {}", types(kind)),
        Kind::Required { property } => format!("lacks {}", value(property)),
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            format!(
                "has members that the schema does not know: {}",
                names(unexpected)
            )
        }
        Kind::Enum { options } => format!("must be one of {}", value(options)),
        Kind::Constant { expected_value } => format!("must be {}", value(expected_value)),
        Kind::Minimum { limit } => format!("must be at least {}", value(limit)),
        Kind::Maximum { limit } => format!("must be at most {}", value(limit)),
        Kind::ExclusiveMinimum { limit } => format!("must be more than {}", value(limit)),
        Kind::ExclusiveMaximum { limit } => format!("must be less than {}", value(limit)),
        Kind::MinLength { limit } => format!("must have at least {limit} characters"),
        Kind::MaxLength { limit } => format!("must have at most {limit} characters"),
        Kind::MinItems { limit } => format!("must have at least {limit} items"),
        Kind::MaxItems { limit } => format!("must have at most {limit} items"),
        Kind::MinProperties { limit } => format!("must have at least {limit} members"),
        Kind::MaxProperties { limit } => format!("must have at most {limit} members"),
        Kind::UniqueItems => "must have no item twice".to_owned(),
        Kind::Pattern { pattern } => format!("must match the pattern {}", quoted(pattern)),
        Kind::BacktrackLimitExceeded { .. } | Kind::RegexEngineFailure { .. } => {
            "cannot be compared with its pattern: it takes too long".to_owned()
        }
        Kind::Format { format } => format!("must have the format {}", quoted(format)),
        Kind::FalseSchema => "must not be there".to_owned(),
        other => format!("breaks the rule {}", other.keyword()),
    }
}

fn types(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(only) => only.to_string(),
        TypeKind::Multiple(set) => {
            let types: Vec<String> = set.iter().map(|one| one.to_string()).collect();
            types.join(" or ")
        }
    }
}

fn names(names: &[String]) -> String {
    let named: Vec<String> = names
        .iter()
        .take(MAX_NAMES)
        .map(|name| quoted(name))
        .collect();
    match names.len().saturating_sub(MAX_NAMES) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

fn value(value: &Value) -> String {
    quoted(&value.to_string())
}

fn quoted(text: &str) -> String {
    let mut characters = text.chars();
    let mut kept: String = characters.by_ref().take(MAX_QUOTED_CHARS).collect();
    if characters.next().is_some() {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::schema::{check, check_schema};

    fn refused(schema: Value, input: Value) -> String {
        check(&schema, &input).unwrap_err().to_string()
    }

    #[test]
    fn rules_have_our_words_and_quote_no_input() {
        let secret = "s3cret";
        let property = |rule: Value| json!({"properties": {"a": rule}});
        for (rule, words) in [
            (json!({"type": "integer"}), "/a: must be integer"),
            (
                json!({"type": ["integer", "null"]}),
                "/a: must be null or integer",
            ),
            (
                json!({"enum": ["x", "y"]}),
                "/a: must be one of [\"x\",\"y\"]",
            ),
            (json!({"const": 1}), "/a: must be 1"),
            (
                json!({"minLength": 10}),
                "/a: must have at least 10 characters",
            ),
            (
                json!({"maxLength": 1}),
                "/a: must have at most 1 characters",
            ),
            (json!({"pattern": "^x"}), "/a: must match the pattern ^x"),
            (
                json!({"anyOf": [{"type": "integer"}, {"type": "null"}]}),
                "/a: breaks the rule anyOf",
            ),
            (json!(false), "/a: must not be there"),
        ] {
            let refusal = refused(property(rule), json!({"a": secret}));
            assert!(refusal.starts_with(words), "{refusal} instead of {words}");
            assert!(!refusal.contains(secret), "{refusal}");
        }
        assert_eq!(
            refused(json!({"required": ["topic"]}), json!({})),
            "lacks \"topic\""
        );
        let closed = json!({"properties": {}, "additionalProperties": false});
        let input: Value = (0..7)
            .map(|n| (format!("k{n}"), json!(1)))
            .collect::<serde_json::Map<_, _>>()
            .into();
        assert_eq!(
            refused(closed, input),
            "has members that the schema does not know: k0, k1, k2, k3, k4 and 2 more"
        );
    }

    #[test]
    fn what_is_no_schema_says_where() {
        for (schema, words) in [
            (
                json!({"properties": {"n": {"type": "strnig"}}}),
                "input_schema: /properties/n/type: JSON Schema does not allow this here (",
            ),
            (
                json!({"$ref": "https://schemas.example/x"}),
                "input_schema: a $ref or $schema names what is not in this schema",
            ),
            (
                json!({"$ref": "#/$defs/none"}),
                "input_schema: a $ref or $schema names what is not in this schema",
            ),
            (
                json!({"properties": {"s": {"pattern": "("}}}),
                "input_schema: /properties/s/pattern: the pattern is no regular expression",
            ),
        ] {
            let refusal = check_schema(&schema).unwrap_err().to_string();
            assert!(refusal.starts_with(words), "{refusal} instead of {words}");
        }
    }

    #[test]
    fn quotations_are_short() {
        let long = "x".repeat(10_000);
        for (schema, input) in [
            (json!({"required": [long]}), json!({})),
            (json!({"enum": [long]}), json!({})),
            (
                json!({"additionalProperties": false}),
                json!({long.as_str(): 1}),
            ),
            (
                json!({"additionalProperties": {"type": "null"}}),
                json!({long.as_str(): 1}),
            ),
        ] {
            assert!(refused(schema, input).len() < 400);
        }
    }
}
