//! Rendering a skill's prompt template: Jinja syntax, strict about missing variables.

use std::io::{self, Write};

use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value};

use super::{
    filters,
    prompt::PromptError,
    value::{self, Written},
};

/// Instructions that one rendering may take; a prompt of 100 KB with loops needs a few thousand.
const FUEL: u64 = 500_000;

/// The longest prompt; above the context window of any model by far.
pub(super) const MAX_PROMPT_BYTES: usize = 4 << 20;

/// A template asks for a few variables; of more than so many the rest is not compared with the schema.
const MAX_VARIABLES: usize = 1_000;

/// The variables of a template that it does not set itself, in order: `topic`, `input.topic`. An error if it is none. Names of
/// filters are looked up when it is rendered.
pub(super) fn check(template: &str) -> Result<Vec<String>, PromptError> {
    let environment = environment(UndefinedBehavior::Strict, &Written::default());
    let checked = environment.template_from_named_str("prompt", template);
    let asked = checked
        .map_err(|error| explain(&error))?
        .undeclared_variables(true);
    let is_global = |name: &str| {
        let top = name.split('.').next();
        environment.globals().any(|(global, _)| Some(global) == top)
    };
    let mut asked: Vec<String> = asked.into_iter().filter(|name| !is_global(name)).collect();
    asked.sort_unstable();
    asked.truncate(MAX_VARIABLES);
    Ok(asked)
}

/// Both `{{ topic }}` and `{{ input.topic }}` work. The name `input` always means the whole.
pub(super) fn render(template: &str, input: &serde_json::Value) -> Result<String, PromptError> {
    let (variables, written) = value::context(input);
    let environment = environment(UndefinedBehavior::Strict, &written);
    render_in(&environment, template, &variables)
}

/// What templates and expressions of tenants run in.
pub(super) fn environment(undefined: UndefinedBehavior, written: &Written) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(undefined);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    filters::add_to(&mut environment, written.clone());
    environment
}

pub(super) fn render_in(
    environment: &Environment<'_>,
    template: &str,
    variables: &Value,
) -> Result<String, PromptError> {
    let template = environment
        .template_from_named_str("prompt", template)
        .map_err(|error| explain(&error))?;

    let mut prompt = Bounded::default();
    // The rendered state borrows the template and is not needed.
    let rendered = template
        .render_captured_to(variables, &mut prompt)
        .map(drop);
    rendered.map_err(|error| match prompt.full {
        true => PromptError::Template(format!(
            "the prompt is longer than {MAX_PROMPT_BYTES} bytes"
        )),
        false => explain(&error),
    })?;
    String::from_utf8(prompt.bytes)
        .map_err(|_| PromptError::Template("the prompt is not UTF-8".to_owned()))
}

pub(super) fn explain(error: &minijinja::Error) -> PromptError {
    let place = error
        .line()
        .map(|line| format!("line {line}: "))
        .unwrap_or_default();
    let message = match error.kind() {
        ErrorKind::OutOfFuel => "the template takes too many steps".to_owned(),
        kind => error
            .detail()
            .map_or_else(|| kind.to_string(), |detail| format!("{kind}: {detail}")),
    };
    PromptError::Template(format!("{place}{message}"))
}

/// Collects the prompt and stops at the limit.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl Write for Bounded {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + part.len() > MAX_PROMPT_BYTES {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(template: &str, input: serde_json::Value) -> String {
        match render(template, &input) {
            Err(PromptError::Template(message)) => message,
            other => panic!("{other:?} instead of a template error"),
        }
    }

    #[test]
    fn variables_work_alone_and_under_input() {
        let input = json!({"topic": "Rust", "tags": ["a", "b"]});
        assert_eq!(
            render(
                "{{ topic }} = {{ input.topic }}: {{ tags | join(', ') }}",
                &input
            )
            .unwrap(),
            "Rust = Rust: a, b"
        );
        assert_eq!(
            render("{% for t in input.tags %}[{{ t }}]{% endfor %}", &input).unwrap(),
            "[a][b]"
        );
    }

    #[test]
    fn nothing_is_escaped() {
        assert_eq!(
            render("{{ x }}", &json!({"x": "<b> & \"q\""})).unwrap(),
            "<b> & \"q\""
        );
        assert_eq!(
            render("{{ input | tojson }}", &json!({"z": 1, "a": 2})).unwrap(),
            r#"{"a": 2, "z": 1}"#
        );
    }

    #[test]
    fn filters_write_plain_text_and_plain_json() {
        let text = "<b> & \"q\" 'a'";
        let input = json!({"x": text, "list": ["a<b", null, true, 1.5, {"k": "'"}], "none": null});
        for (template, wanted) in [
            ("{{ x | escape }}", text),
            ("{{ x | e }}", text),
            (
                "{{ x | safe }}{{ [x | safe, x] | join(' ') }}",
                &format!("{text}{text} {text}"),
            ),
            ("{{ x | safe | replace('&', '<') }}", "<b> < \"q\" 'a'"),
            (
                "{{ [x | tojson, x] | join(' ') }}",
                &format!("{} {text}", json!(text)),
            ),
            ("{{ x | tojson }}", r#""<b> & \"q\" 'a'""#),
            ("{{ list }}", r#"["a<b", null, true, 1.5, {"k": "'"}]"#),
            (
                "{{ list | string }}",
                r#"["a<b", null, true, 1.5, {"k": "'"}]"#,
            ),
            ("{{ list[4] | tojson(indent=2) }}", "{\n  \"k\": \"'\"\n}"),
            ("{{ list[4] | tojson(true) }}", "{\n  \"k\": \"'\"\n}"),
            ("{{ list[4] | tojson(false) }}", "{\"k\": \"'\"}"),
            (
                "{{ range(3) | tojson }}{{ (1, 'a') | tojson }}",
                r#"[0, 1, 2][1, "a"]"#,
            ),
            ("{{ {1: 2, 'b': none} | tojson }}", r#"{"1": 2, "b": null}"#),
            ("{{ none }} {{ true }} {{ list | length }}", "None True 5"),
            ("{{ list[2:4] }}", "[true, 1.5]"),
            ("{{ list[4] | pprint }}", "{\n  \"k\": \"'\"\n}"),
            ("{{ x | pprint }} {{ 7 | pprint }}", &format!("{text} 7")),
            (
                "{{ [list] | join(' ') }}",
                r#"["a<b", null, true, 1.5, {"k": "'"}]"#,
            ),
            ("{{ list | first | upper }}", "A<B"),
        ] {
            assert_eq!(
                render(template, &input).as_deref(),
                Ok(wanted),
                "{template}"
            );
        }
        assert!(message("{{ nothing | tojson }}", json!({})).contains("undefined"));
    }

    #[test]
    fn numbers_come_digit_by_digit() {
        let input: serde_json::Value = serde_json::from_str(
            r#"{"big": 18446744073709551616, "sum": 12345678901234.123456, "price": 1.10, "tiny": 0.0000001, "half": 0.5, "one": 1.0,
                "minus": -18446744073709551617, "huge": 340282366920938463463374607431768211456000, "n": 7, "list": [12345678901234.123456], "same": [2.50, 2.5]}"#,
        )
        .unwrap();
        for (template, wanted) in [
            ("{{ big }}", "18446744073709551616"),
            ("{{ input.sum }}", "12345678901234.123456"),
            (
                "{{ price }} {{ tiny }} {{ half }} {{ one }} {{ n }}",
                "1.10 0.0000001 0.5 1.0 7",
            ),
            ("{{ minus }}", "-18446744073709551617"),
            ("{{ huge }}", "340282366920938463463374607431768211456000"),
            ("{{ 'x' ~ sum }}", "x12345678901234.123456"),
            (
                "{{ list | join }}{{ list }}",
                "12345678901234.123456[12345678901234.123456]",
            ),
            ("{{ sum | string | length }}", "21"),
            (
                "{{ {'b': big, 's': sum, 'p': price} | tojson }}",
                r#"{"b": 18446744073709551616, "p": 1.10, "s": 12345678901234.123456}"#,
            ),
            ("{{ big + 1 }}", "18446744073709551617"),
            ("{{ half * n }}", "3.5"),
            (
                "{{ price * 2 }} {{ price + n }} {{ price < 2 }} {{ -price }}",
                "2.2 8.1 True -1.1",
            ),
            (
                "{{ [price, half] | max }} {{ [price, half] | join(' ') }} {{ price | string }}",
                "1.10 1.10 0.5 1.10",
            ),
            (
                "{{ (sum | float) * 2 }} {{ sum | int }} {{ sum | round(1) }}",
                "24691357802468.246 12345678901234 12345678901234.1",
            ),
            (
                "{% if sum %}yes{% endif %} {{ sum == input.sum }}",
                "yes True",
            ),
            (
                "{{ price is number }} {{ big is number }} {{ sum is number }}",
                "True True True",
            ),
            ("{{ same }}", "[2.5, 2.5]"),
        ] {
            assert_eq!(
                render(template, &input).as_deref(),
                Ok(wanted),
                "{template}"
            );
        }
    }

    #[test]
    fn the_name_input_means_the_whole_even_when_a_member_has_it() {
        assert_eq!(
            render("{{ input.input }}", &json!({"input": "inner"})).unwrap(),
            "inner"
        );
    }

    #[test]
    fn a_missing_variable_is_an_error_with_its_line() {
        let text = message("first\n{{ nothing }}", json!({}));
        assert!(
            text.starts_with("line 2: ") && text.contains("undefined"),
            "{text}"
        );
        assert!(message("{{ input.nothing }}", json!({})).contains("undefined"));
        assert_eq!(
            render("{{ nothing | default('x') }}", &json!({})).unwrap(),
            "x"
        );
    }

    #[test]
    fn a_template_cannot_read_another_one() {
        assert!(message("{% include '/etc/passwd' %}", json!({})).contains("line 1"));
    }

    #[test]
    fn syntax_errors_say_where() {
        assert!(
            message("a\nb {{ c", json!({})).starts_with("line 2: syntax error"),
            "{}",
            message("a\nb {{ c", json!({}))
        );
    }

    #[test]
    fn endless_work_and_endless_output_are_stopped() {
        let loops = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
        assert!(message(loops, json!({})).contains("too many steps"));
        let long = "{% for a in range(9999) %}{{ 'x' * 1000 }}{% endfor %}";
        assert!(message(long, json!({})).contains("longer than"));
    }
}
