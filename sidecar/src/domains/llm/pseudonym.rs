//! Names that a vendor keys something to: its cache of prompts, and whom it bans. On the platform's keys all organizations are one
//! customer, so each name is replaced by one that no other organization can give.

use std::fmt::Write;

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::store::Target;

const NAMES: [&str; 3] = ["prompt_cache_key", "safety_identifier", "user"];

/// Replaces them in a body for a target. An organization's own keys are its own business.
pub(super) fn replace(body: &mut Map<String, Value>, target: &Target, organization: Uuid) {
    if target.own_key {
        return;
    }
    for name in NAMES {
        if let Some(value) = body.get_mut(name) {
            hide(value, organization);
        }
    }
    // Where Anthropic's requests have the user.
    let metadata = body.get_mut("metadata").and_then(Value::as_object_mut);
    if let Some(value) = metadata.and_then(|it| it.get_mut("user_id")) {
        hide(value, organization);
    }
}

fn hide(value: &mut Value, organization: Uuid) {
    if value.is_null() {
        return;
    }
    let given = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    *value = json!(pseudonym(&given, organization));
}

/// The same name always, and as long as each of the fields may be.
fn pseudonym(given: &str, organization: Uuid) -> String {
    let mut context = Context::new(&SHA256);
    context.update(organization.as_bytes());
    context.update(given.as_bytes());
    let digest = context.finish();
    digest.as_ref()[..16]
        .iter()
        .fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(own_key: bool) -> Target {
        serde_json::from_value(json!({
            "index": 0, "provider": "openai", "kind": "openai", "base_url": null, "key": null, "own_key": own_key, "model": "m",
            "max_output_tokens": 1, "max_concurrency": null, "provider_id": null,
        }))
        .unwrap()
    }

    fn sent(given: &Value, own_key: bool, organization: u128) -> Map<String, Value> {
        let mut body = given.as_object().unwrap().clone();
        replace(&mut body, &target(own_key), Uuid::from_u128(organization));
        body
    }

    #[test]
    fn two_organizations_never_name_the_same_user_or_cache() {
        let given = json!({"user": "ada", "prompt_cache_key": "k", "safety_identifier": {"a": 1}, "model": "m", "seed": 1});
        let (one, again, other) = (
            sent(&given, false, 1),
            sent(&given, false, 1),
            sent(&given, false, 2),
        );
        assert_eq!(one, again);
        for name in NAMES {
            let text = one[name].as_str().unwrap();
            assert!(text.len() == 32 && one[name] != other[name], "{name}");
        }
        assert_eq!((&one["model"], &one["seed"]), (&json!("m"), &json!(1)));
        assert_eq!(one.len(), given.as_object().unwrap().len());
    }

    #[test]
    fn the_user_of_anthropic_is_hidden_as_well() {
        let given = json!({"metadata": {"user_id": "ada"}});
        let (one, other) = (sent(&given, false, 1), sent(&given, false, 2));
        let user = one["metadata"]["user_id"].as_str().unwrap();
        assert!(user.len() == 32 && one != other, "{user}");
        assert_eq!(Value::Object(sent(&given, true, 1)), given);
    }

    #[test]
    fn on_own_keys_they_are_as_they_came() {
        let given = json!({"user": "ada", "prompt_cache_key": "k"});
        assert_eq!(Value::Object(sent(&given, true, 1)), given);
    }

    #[test]
    fn nothing_is_added() {
        assert_eq!(
            sent(&json!({"user": null}), false, 1),
            *json!({"user": null}).as_object().unwrap()
        );
    }
}
