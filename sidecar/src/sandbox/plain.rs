//! Plain templates: `{{name}}` is replaced by the variable and nothing else is special, so that text with braces stays as it is.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{prompt::PromptError, template::MAX_PROMPT_BYTES};

/// A piece of a template.
enum Piece<'a> {
    Text(&'a str),
    Variable(&'a str),
}

/// The variables of a template, in order.
pub(super) fn check(template: &str) -> Vec<String> {
    let names: BTreeSet<&str> = pieces(template)
        .into_iter()
        .filter_map(|piece| match piece {
            Piece::Variable(name) => Some(name),
            Piece::Text(_) => None,
        })
        .collect();
    names.into_iter().map(str::to_owned).collect()
}

/// Strings are inserted as they are, other values as JSON. A missing variable is an error, as in the other engine.
pub(super) fn render(template: &str, input: &Value) -> Result<String, PromptError> {
    let none = Map::new();
    let variables = input.as_object().unwrap_or(&none);
    let mut prompt = String::with_capacity(template.len());
    for piece in pieces(template) {
        match piece {
            Piece::Text(text) => prompt.push_str(text),
            Piece::Variable(name) => match variables.get(name) {
                Some(Value::String(text)) => prompt.push_str(text),
                Some(value) => prompt.push_str(&value.to_string()),
                None => {
                    return Err(PromptError::Template(format!("{name} is undefined")));
                }
            },
        }
        if prompt.len() > MAX_PROMPT_BYTES {
            return Err(PromptError::Template(format!(
                "the prompt is longer than {MAX_PROMPT_BYTES} bytes"
            )));
        }
    }
    Ok(prompt)
}

fn pieces(template: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut rest = template;
    // What stands before `rest` and is not in a piece yet.
    let mut text = 0;
    let mut start = template;
    while let Some(at) = rest.find("{{") {
        let after = &rest[at + 2..];
        match variable(after) {
            Some((name, length)) => {
                found.push(Piece::Text(&start[..text + at]));
                found.push(Piece::Variable(name));
                rest = &after[length..];
                start = rest;
                text = 0;
            }
            // One brace further: `{{{name}}}` is a variable in braces.
            None => {
                text += at + 1;
                rest = &rest[at + 1..];
            }
        }
    }
    found.push(Piece::Text(start));
    found
}

/// `name}}` with blanks around the name: the name, and how many bytes that takes.
fn variable(after: &str) -> Option<(&str, usize)> {
    let trimmed = after.trim_start_matches(' ');
    let end = trimmed.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?;
    let name = &trimmed[..end];
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let rest = trimmed[end..].trim_start_matches(' ');
    let rest = rest.strip_prefix("}}")?;
    Some((name, after.len() - rest.len()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_are_replaced_and_nothing_else() {
        let input = json!({"a": "x {{b}}", "b": 1.10, "list": [1, "é"], "_c": null});
        for (template, wanted) in [
            ("{{a}}", "x {{b}}"),
            ("{{ a }}-{{b}}", "x {{b}}-1.1"),
            ("{{list}} {{_c}}", "[1,\"é\"] null"),
            (
                "{\"k\": {\"n\": \"{{a}}\"}}",
                "{\"k\": {\"n\": \"x {{b}}\"}}",
            ),
            ("{{{a}}}", "{x {{b}}}"),
            (
                "{{a b}} {{1}} {{}} {{ a.b }} {% if %} {{a",
                "{{a b}} {{1}} {{}} {{ a.b }} {% if %} {{a",
            ),
            ("", ""),
            ("é{{", "é{{"),
            ("{{{{a}}", "{{x {{b}}"),
        ] {
            assert_eq!(
                render(template, &input).as_deref(),
                Ok(wanted),
                "{template}"
            );
        }
    }

    #[test]
    fn a_missing_variable_is_an_error() {
        assert_eq!(check("{{b}} {{ a }} {{b}} {{ c.d }}"), ["a", "b"]);
        assert!(matches!(
            render("{{a}}", &json!({})),
            Err(PromptError::Template(_))
        ));
        assert!(matches!(
            render("{{a}}", &Value::Null),
            Err(PromptError::Template(_))
        ));
    }

    #[test]
    fn a_prompt_is_bounded() {
        let input = json!({"a": "x".repeat(1 << 20)});
        assert!(render(&"{{a}}".repeat(4), &input).is_ok());
        assert!(render(&"{{a}}".repeat(5), &input).is_err());
    }
}
