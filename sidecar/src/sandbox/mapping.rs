//! Filtering an event and mapping it to a skill's input. Both are a tenant's, so they run in the sandbox.
//!
//! The filter is one expression: `event == 'push' and payload.ref == 'refs/heads/main'`. The mapping is an object whose texts are
//! templates. A text that is one expression alone, `"{{ payload.commits }}"`, becomes its value with its type; any other text
//! becomes a text. So a value of the event never has to be escaped.

use minijinja::{Environment, UndefinedBehavior, Value};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::{
    prompt::PromptError,
    template,
    value::{self, Written},
};

/// The largest input of an execution, as the database checks it.
const MAX_INPUT_BYTES: usize = 262_144;

/// A tenant's filter and mapping, and one event.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MappingRequest {
    /// An expression; without one, every event passes.
    #[serde(default)]
    pub filter: Option<String>,
    /// The object that becomes the input; null for the payload itself.
    #[serde(default)]
    pub mapping: Json,
    /// The variables: an object with `payload`, `headers`, `event` and the like.
    pub variables: Json,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mapped {
    /// The filter does not want it.
    Filtered,
    /// The input that it makes.
    Input(Json),
    /// The filter or the mapping is wrong, or does not fit the event. The message is for their author.
    Failed {
        /// Short name.
        code: String,
        /// In words.
        message: String,
    },
}

pub(super) fn map(request: &MappingRequest) -> Mapped {
    let (variables, written) = value::context(&request.variables);
    let (variables, written) = (&variables, &written);
    match request
        .filter
        .as_deref()
        .map(|filter| passes(filter, variables, written))
    {
        Some(Err(error)) => return failed("filter_error", &error),
        Some(Ok(false)) => return Mapped::Filtered,
        Some(Ok(true)) | None => {}
    }
    let input = match &request.mapping {
        Json::Null => Ok(whole(&request.variables["payload"])),
        mapping => Mapping::new(variables, written).apply(mapping, "input"),
    };
    match input {
        Err(error) => failed("mapping_error", &error),
        Ok(input) if input.to_string().len() > MAX_INPUT_BYTES => failed(
            "invalid_input",
            &PromptError::Template(format!(
                "the input is larger than {MAX_INPUT_BYTES} bytes; map what the skill needs"
            )),
        ),
        Ok(input) => Mapped::Input(input),
    }
}

fn failed(code: &str, error: &PromptError) -> Mapped {
    Mapped::Failed {
        code: code.to_owned(),
        message: error.to_string(),
    }
}

/// An input is an object.
fn whole(payload: &Json) -> Json {
    match payload {
        Json::Object(_) => payload.clone(),
        other => json!({ "payload": other }),
    }
}

/// An event without a member that the filter names does not pass: events of one source have many shapes.
fn passes(filter: &str, variables: &Value, written: &Written) -> Result<bool, PromptError> {
    let environment = template::environment(UndefinedBehavior::Chainable, written);
    evaluate(&environment, filter, variables).map(|value| value.is_true())
}

fn evaluate(
    environment: &Environment<'_>,
    expression: &str,
    variables: &Value,
) -> Result<Value, PromptError> {
    environment
        .compile_expression(expression)
        .and_then(|compiled| compiled.eval(variables))
        .map_err(|error| template::explain(&error))
}

struct Mapping<'a> {
    environment: Environment<'a>,
    variables: &'a Value,
    written: &'a Written,
}

impl<'a> Mapping<'a> {
    fn new(variables: &'a Value, written: &'a Written) -> Self {
        Self {
            environment: template::environment(UndefinedBehavior::Strict, written),
            variables,
            written,
        }
    }

    fn apply(&self, mapping: &Json, path: &str) -> Result<Json, PromptError> {
        match mapping {
            Json::String(text) => self.text(text).map_err(|error| at(path, error)),
            Json::Array(items) => (0..)
                .zip(items)
                .map(|(place, item)| self.apply(item, &format!("{path}[{place}]")))
                .collect(),
            Json::Object(members) => members
                .iter()
                .map(|(name, item)| {
                    let value = self.apply(item, &format!("{path}.{name}"))?;
                    Ok((name.clone(), value))
                })
                .collect(),
            other => Ok(other.clone()),
        }
    }

    fn text(&self, text: &str) -> Result<Json, PromptError> {
        let Some(expression) = lone_expression(text) else {
            return template::render_in(&self.environment, text, self.variables).map(Json::String);
        };
        let value = evaluate(&self.environment, expression, self.variables)?;
        if value.is_undefined() {
            return Err(PromptError::Template(format!(
                "undefined value: the event has no {expression}"
            )));
        }
        value::to_json(&value, self.written).map_err(|error| template::explain(&error))
    }
}

fn at(path: &str, error: PromptError) -> PromptError {
    match error {
        PromptError::Template(message) => PromptError::Template(format!("{path}: {message}")),
        other => other,
    }
}

/// What stands between the braces, if the text is nothing else.
fn lone_expression(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let marks = ["{{", "}}", "{%", "%}", "{#"];
    let inner = inner.trim_matches('-').trim();
    (!inner.is_empty() && !marks.iter().any(|mark| inner.contains(mark))).then_some(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Json {
        serde_json::from_str(
            r#"{"event": "push", "headers": {"x-github-event": "push"}, "payload": {"ref": "refs/heads/main", "n": 1.10,
                "commits": [{"message": "a \"b\""}, {"message": "c"}]}}"#,
        )
        .unwrap()
    }

    fn mapped(filter: Option<&str>, mapping: Json) -> Mapped {
        map(&MappingRequest {
            filter: filter.map(str::to_owned),
            mapping,
            variables: event(),
        })
    }

    fn code(mapped: &Mapped) -> &str {
        match mapped {
            Mapped::Failed { code, .. } => code,
            other => panic!("{other:?} instead of a failure"),
        }
    }

    #[test]
    fn without_a_mapping_the_payload_is_the_input() {
        assert_eq!(
            mapped(None, Json::Null),
            Mapped::Input(event()["payload"].clone())
        );
        let request = MappingRequest {
            filter: None,
            mapping: Json::Null,
            variables: json!({"payload": [1]}),
        };
        assert_eq!(map(&request), Mapped::Input(json!({"payload": [1]})));
    }

    #[test]
    fn one_expression_keeps_its_type_and_digits_and_a_text_is_a_text() {
        let mapping = json!({
            "commits": "{{ payload.commits }}", "n": "{{payload.n}}", "yes": "{{ payload.n > 1 }}", "fixed": 7, "plain": "as it is",
            "text": "{{ event }} to {{ payload.ref }}", "nested": [{"m": "{{ payload.commits[0].message }}"}],
            "all": "{{ payload.commits | map(attribute='message') | join('; ') }}", "header": "{{ headers['x-github-event'] }}",
        });
        let expected: Json = serde_json::from_str(
            r#"{"commits": [{"message": "a \"b\""}, {"message": "c"}], "n": 1.10, "yes": true, "fixed": 7, "plain": "as it is",
                "text": "push to refs/heads/main", "nested": [{"m": "a \"b\""}], "all": "a \"b\"; c", "header": "push"}"#,
        )
        .unwrap();
        assert_eq!(mapped(None, mapping), Mapped::Input(expected));
    }

    #[test]
    fn a_filter_decides_and_a_missing_member_does_not_pass() {
        let passes = |filter| mapped(Some(filter), json!({})) != Mapped::Filtered;
        assert!(passes(
            "event == 'push' and payload.ref == 'refs/heads/main'"
        ));
        assert!(!passes("event == 'issues'"));
        assert!(!passes("payload.pull_request.merged"));
        assert!(!passes("payload.pull_request.base.ref == 'main'"));
        assert!(passes("not payload.deleted"));
    }

    #[test]
    fn faults_have_a_code_and_say_where() {
        assert_eq!(code(&mapped(Some("event =="), json!({}))), "filter_error");
        assert_eq!(
            code(&mapped(Some("payload.ref | nothing"), json!({}))),
            "filter_error"
        );
        for mapping in [
            json!({"a": {"b": ["{{ payload.nothing }}"]}}),
            json!({"a": {"b": ["x {{ payload.nothing }}"]}}),
        ] {
            match mapped(None, mapping) {
                Mapped::Failed { code, message } => {
                    assert_eq!(code, "mapping_error");
                    assert!(message.starts_with("input.a.b[0]: "), "{message}");
                    assert!(message.contains("undefined"), "{message}");
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(
            code(&mapped(None, json!({"a": "{{ payload.ref"}))),
            "mapping_error"
        );
        let large = json!({"a": "{{ 'x' * 300000 }}"});
        assert_eq!(code(&mapped(None, large)), "invalid_input");
        let endless = "range(9999) | map('string') | join | length > range(99999999) | length";
        assert_eq!(code(&mapped(Some(endless), json!({}))), "filter_error");
    }

    #[test]
    fn only_a_text_of_one_expression_is_a_value() {
        assert_eq!(lone_expression(" {{ a }} "), Some("a"));
        assert_eq!(lone_expression("{{- a.b -}}"), Some("a.b"));
        for text in [
            "{{ a }} {{ b }}",
            "a",
            "{{ }}",
            "{{ a }}.",
            "{% if a %}{% endif %}",
            "{{ '}}' }}",
        ] {
            assert_eq!(lone_expression(text), None, "{text}");
        }
    }
}
