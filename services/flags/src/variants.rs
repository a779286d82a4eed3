//! Variants of flags and strategies that cannot work.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::Value;
use unleash_types::client_features::Payload;

use crate::value::{MAX_NAME_BYTES, MAX_VALUE_BYTES, is_context_name, is_number};

const MAX_VARIANTS: usize = 50;
const MAX_OVERRIDES: usize = 50;
const MAX_VALUES: usize = 1_000;
const MAX_PAYLOAD_BYTES: usize = 10_000;
const MAX_WEIGHT: i64 = 1_000;

type Checked = Result<(), String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Variant {
    name: String,
    weight: i64,
    weight_type: Option<String>,
    stickiness: Option<String>,
    payload: Option<Payload>,
    #[serde(default)]
    overrides: Vec<Override>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Override {
    context_name: String,
    values: Vec<String>,
}

/// The error begins with the place in the list.
pub(crate) fn variants(list: &[Value], of_flag: bool) -> Checked {
    if list.len() > MAX_VARIANTS {
        return Err(format!(": at most {MAX_VARIANTS}"));
    }
    let mut names = HashSet::new();
    for (place, value) in list.iter().enumerate() {
        let at = |fault: String| format!("[{place}]: {fault}");
        let variant = Variant::deserialize(value).map_err(|error| at(error.to_string()))?;
        variant.check(of_flag).map_err(at)?;
        if !names.insert(variant.name) {
            return Err(at("name: another variant has it".to_owned()));
        }
    }
    Ok(())
}

impl Variant {
    fn check(&self, of_flag: bool) -> Checked {
        let refuse = |fault: &str| Err(fault.to_owned());
        if self.name.is_empty() || self.name.len() > MAX_NAME_BYTES {
            return refuse("name: 1 to 100 bytes");
        }
        if !(1..=MAX_WEIGHT).contains(&self.weight) {
            return refuse("weight: 1 to 1000");
        }
        if !matches!(self.weight_type.as_deref(), None | Some("fix" | "variable")) {
            return refuse("weightType: fix or variable");
        }
        if self
            .stickiness
            .as_deref()
            .is_some_and(|name| !is_context_name(name))
        {
            return refuse("stickiness: default, random, or a field of the context");
        }
        if !of_flag && !self.overrides.is_empty() {
            return refuse("overrides: of variants of a flag only");
        }
        let overrides_are_good = self.overrides.len() <= MAX_OVERRIDES
            && self.overrides.iter().all(|item| {
                is_context_name(&item.context_name)
                    && item.values.len() <= MAX_VALUES
                    && item
                        .values
                        .iter()
                        .all(|value| value.len() <= MAX_VALUE_BYTES)
            });
        if !overrides_are_good {
            return refuse("overrides: at most 50, each with contextName and at most 1000 values");
        }
        let Some(payload) = &self.payload else {
            return Ok(());
        };
        let value = payload.value.as_str();
        match payload.payload_type.as_str() {
            _ if value.len() > MAX_PAYLOAD_BYTES => refuse("payload.value: at most 10000 bytes"),
            "string" | "csv" => Ok(()),
            "number" if is_number(value) => Ok(()),
            "json" if serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok() => Ok(()),
            "number" | "json" => refuse("payload.value: is not of its type"),
            _ => refuse("payload.type: string, csv, number or json"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{Part, problem};

    #[test]
    fn variants_have_weights_and_payloads_of_their_type() {
        let of = |variant: Value| problem(Part::Variants, &json!([variant]));
        for good in [
            json!({"name": "a", "weight": 1}),
            json!({"name": "a", "weight": 1000, "weightType": "fix", "stickiness": "userId", "payload": {"type": "json", "value": "{}"}}),
            json!({"name": "a", "weight": 1, "overrides": [{"contextName": "userId", "values": ["1"]}]}),
        ] {
            assert_eq!(of(good.clone()), None, "{good}");
        }
        for bad in [
            json!({"name": "a", "weight": 0}),
            json!({"name": "", "weight": 1}),
            json!({"name": "a", "weight": 1.5}),
            json!({"name": "a", "weight": 1, "payload": {"type": "json", "value": "{"}}),
            json!({"name": "a", "weight": 1, "payload": {"type": "xml", "value": ""}}),
        ] {
            assert!(of(bad.clone()).is_some(), "{bad}");
        }
        let twice = json!([{"name": "a", "weight": 1}, {"name": "a", "weight": 1}]);
        assert!(problem(Part::Variants, &twice).is_some());
    }
}
