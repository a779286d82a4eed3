//! The context of an evaluation: who asks, from where, and when.

use std::collections::HashMap;

use serde_json::{Map, Value};

pub use unleash_yggdrasil::Context;

/// A context of Unleash's form: its six fields, `properties`, and what else is beside them, which counts as a property. Numbers
/// and booleans are read as text; null, lists and objects are left out. `now` is the time, unless the context has its own.
pub fn context(mut members: Map<String, Value>, now: &str) -> Context {
    let mut properties = HashMap::new();
    if let Some(Value::Object(nested)) = members.remove("properties") {
        let texts = nested
            .into_iter()
            .filter_map(|(name, value)| Some((name, text(value)?)));
        properties.extend(texts);
    }
    let mut field = |name: &str| {
        members
            .remove(name)
            .and_then(text)
            .or_else(|| properties.remove(name))
    };
    let mut context = Context {
        user_id: field("userId"),
        session_id: field("sessionId"),
        environment: field("environment"),
        app_name: field("appName"),
        current_time: field("currentTime").or_else(|| Some(now.to_owned())),
        remote_address: field("remoteAddress"),
        properties: None,
    };
    for (name, value) in members {
        if let Some(value) = text(value) {
            properties.entry(name).or_insert(value);
        }
    }
    context.properties = Some(properties);
    context
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_no_field_is_a_property() {
        let Value::Object(members) = json!({
            "userId": 7, "currentTime": null, "plan": "PRO", "list": [1],
            "properties": {"sessionId": "s", "beta": true, "plan": "FREE", "deep": {}},
        }) else {
            panic!("an object")
        };
        let read = context(members, "2026-11-29T00:00:00Z");
        assert_eq!(read.user_id.as_deref(), Some("7"));
        assert_eq!(read.session_id.as_deref(), Some("s"));
        assert_eq!(read.current_time.as_deref(), Some("2026-11-29T00:00:00Z"));
        let properties = read.properties.unwrap();
        assert_eq!(
            (properties["plan"].as_str(), properties["beta"].as_str()),
            ("FREE", "true")
        );
        assert_eq!(properties.len(), 2);
    }
}
