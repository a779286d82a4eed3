//! Variables of a template that its schema does not know. A missing variable fails the rendering, so a name that no input can have is
//! found when the skill is stored, instead of when it runs.

use serde_json::{Map, Value};

/// A variable that the schema does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// As the template has it: `topic`, `input.topic`.
    pub name: String,
    /// Whether no input can have it, and the template does not say what to do then.
    pub always_missing: bool,
}

/// Rules that let an input have members which `properties` does not name, or that this does not follow.
const OPEN: [&str; 12] = [
    "$ref",
    "$dynamicRef",
    "$recursiveRef",
    "allOf",
    "anyOf",
    "oneOf",
    "if",
    "not",
    "patternProperties",
    "dependentSchemas",
    "dependencies",
    "unevaluatedProperties",
];

/// Those of `asked` that `schema.properties` does not name. None if the schema names no properties.
pub fn unknown(template: &str, asked: &[String], schema: &Value) -> Vec<Unknown> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return Vec::new();
    };
    let closed = schema.get("additionalProperties") == Some(&Value::Bool(false))
        && OPEN.iter().all(|rule| schema.get(rule).is_none());
    let unknown = asked.iter().filter(|name| !is_known(name, properties));
    unknown
        .map(|name| Unknown {
            always_missing: closed && !is_optional(template, name),
            name: name.clone(),
        })
        .collect()
}

/// The name `input` means the whole.
fn is_known(name: &str, properties: &Map<String, Value>) -> bool {
    let mut parts = name.split('.');
    match (parts.next(), parts.next()) {
        (Some("input"), None) => true,
        (Some("input"), Some(member)) | (Some(member), _) => properties.contains_key(member),
        (None, _) => true,
    }
}

/// Whether the template asks for it with `default`, or asks whether it is there.
fn is_optional(template: &str, name: &str) -> bool {
    let mut rest = template;
    while let Some(at) = rest.find(name) {
        rest = &rest[at + name.len()..];
        let next = rest.trim_start();
        let filter = next.strip_prefix('|').map(str::trim_start);
        let test = next.strip_prefix("is ").map(str::trim_start);
        let test = test.map(|test| test.strip_prefix("not ").unwrap_or(test).trim_start());
        if filter.is_some_and(|it| it.starts_with("default") || it.starts_with("d("))
            || test.is_some_and(|it| it.starts_with("defined") || it.starts_with("undefined"))
        {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::template, *};

    fn found(template: &str, schema: &Value) -> Vec<(String, bool)> {
        let asked = template::check(template).unwrap();
        let unknown = unknown(template, &asked, schema);
        unknown
            .into_iter()
            .map(|it| (it.name, it.always_missing))
            .collect()
    }

    fn closed() -> Value {
        json!({"properties": {"topic": {}, "tags": {}, "input": {}}, "additionalProperties": false})
    }

    #[test]
    fn names_of_properties_are_known() {
        for template in [
            "{{ topic }} {{ input.topic }} {{ input }} {{ tags[0] }} {{ topic.title }}",
            "{% for tag in tags %}{{ tag }} {{ loop.index }}{% endfor %}{% set x = topic %}{{ x }}",
            "{% for n in range(3) %}{{ n }}{% endfor %}",
            "{{ dict(a=topic) }}{% set ns = namespace(n=0) %}{{ ns.n }}",
            "no variables",
        ] {
            assert_eq!(found(template, &closed()), [], "{template}");
        }
    }

    #[test]
    fn another_name_cannot_be_in_an_input_of_a_closed_schema() {
        assert_eq!(
            found("{{ topik }}", &closed()),
            [("topik".to_owned(), true)]
        );
        assert_eq!(
            found("{{ input.topik }}", &closed()),
            [("input.topik".to_owned(), true)]
        );
        assert_eq!(
            found("{% for t in tag %}{{ t }}{% endfor %}{{ b }}", &closed()),
            [("b".to_owned(), true), ("tag".to_owned(), true)]
        );
    }

    #[test]
    fn what_the_template_expects_to_be_missing_is_no_fault() {
        for template in [
            "{{ topik | default('x') }}",
            "{{ topik|d('x') }}",
            "{% if topik is defined %}{{ topik }}{% endif %}",
            "{% if topik is not defined %}x{% endif %}",
        ] {
            assert_eq!(
                found(template, &closed()),
                [("topik".to_owned(), false)],
                "{template}"
            );
        }
    }

    #[test]
    fn an_open_schema_may_have_it() {
        let properties = json!({"topic": {}});
        for schema in [
            json!({"properties": properties}),
            json!({"properties": properties, "additionalProperties": {"type": "string"}}),
            json!({"properties": properties, "additionalProperties": false, "patternProperties": {"^t": {}}}),
            json!({"properties": properties, "additionalProperties": false, "allOf": [{}]}),
        ] {
            assert_eq!(
                found("{{ topik }}", &schema),
                [("topik".to_owned(), false)],
                "{schema}"
            );
        }
        for schema in [
            json!({"type": "object"}),
            json!({}),
            Value::Null,
            json!({"properties": 1}),
        ] {
            assert_eq!(found("{{ topik }}", &schema), [], "{schema}");
        }
    }
}
