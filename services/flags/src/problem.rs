//! Why a part of a flag's definition cannot work. What passes here compiles and can be on.

use regex::RegexBuilder;
use semver::Version;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    value::{
        MAX_NAME_BYTES, is_context_name, is_network, is_number, is_percentage, is_plain,
        is_quotable, is_time,
    },
    variants::variants,
};

const MAX_CONSTRAINTS: usize = 50;
const MAX_VALUES: usize = 1_000;
const MAX_PARAMETER_BYTES: usize = 20_000;
/// Of a compiled expression. An organization has a limited number of them.
const MAX_PATTERN_MEMORY: usize = 256 << 10;

/// What is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `{name, parameters, constraints, variants}`.
    Strategy,
    /// The list of a segment.
    Constraints,
    /// The list of a flag.
    Variants,
}

type Checked = Result<(), String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Strategy {
    name: String,
    #[serde(default)]
    parameters: Map<String, Value>,
    #[serde(default)]
    constraints: Vec<Value>,
    #[serde(default)]
    variants: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Constraint {
    context_name: String,
    operator: String,
    #[serde(default)]
    values: Vec<String>,
    value: Option<String>,
    #[serde(default)]
    inverted: bool,
    #[serde(default)]
    case_insensitive: bool,
}

/// The first fault, for who stores it; None if it can work.
pub fn problem(part: Part, definition: &Value) -> Option<String> {
    let list = || {
        definition
            .as_array()
            .ok_or_else(|| "must be a list".to_owned())
    };
    let checked = match part {
        Part::Strategy => strategy(definition),
        Part::Constraints => list().and_then(|list| constraints(list)),
        Part::Variants => list().and_then(|list| variants(list, true)),
    };
    checked.err()
}

fn read<'a, T: Deserialize<'a>>(value: &'a Value) -> Result<T, String> {
    T::deserialize(value).map_err(|error| error.to_string())
}

fn strategy(definition: &Value) -> Checked {
    let strategy: Strategy = read(definition)?;
    parameters(&strategy.name, &strategy.parameters)?;
    constraints(&strategy.constraints).map_err(|fault| format!("constraints{fault}"))?;
    variants(&strategy.variants, false).map_err(|fault| format!("variants{fault}"))
}

fn parameters(strategy: &str, parameters: &Map<String, Value>) -> Checked {
    let (required, optional): (&[&str], &[&str]) = match strategy {
        "default" => (&[], &[]),
        "userWithId" => (&["userIds"], &[]),
        "gradualRolloutUserId" | "gradualRolloutSessionId" => (&["percentage", "groupId"], &[]),
        "gradualRolloutRandom" => (&["percentage"], &[]),
        "flexibleRollout" => (&["rollout"], &["stickiness", "groupId"]),
        "remoteAddress" => (&["IPs"], &[]),
        "applicationHostname" => (&["hostNames"], &[]),
        _ => return Err("name: there is no such strategy".to_owned()),
    };
    for (name, value) in parameters {
        let fault = |fault: &str| Err(format!("parameters.{name}: {fault}"));
        let Some(text) = value.as_str() else {
            return fault("must be a text");
        };
        if !required.iter().chain(optional).any(|known| known == name) {
            return fault("the strategy has no such parameter");
        }
        if text.len() > MAX_PARAMETER_BYTES {
            return fault("too long");
        }
        let list = || text.split(',').map(str::trim);
        let good = match name.as_str() {
            "rollout" | "percentage" => is_percentage(text),
            "stickiness" => is_context_name(text),
            "groupId" => text.len() <= MAX_NAME_BYTES && !text.contains(['"', '\\']),
            "IPs" => list().all(is_plain) && list().any(is_network),
            _ => list().all(|item| !item.is_empty() && is_quotable(item)),
        };
        if !good {
            return fault(match name.as_str() {
                "rollout" | "percentage" => "a whole number from 0 to 100",
                "stickiness" => "default, random, or a field of the context",
                "IPs" => "addresses or networks, separated by commas, without quotes",
                "groupId" => "at most 100 bytes without quotes",
                _ => "a list, separated by commas, without backslashes before quotes",
            });
        }
    }
    match required
        .iter()
        .find(|name| !parameters.contains_key(**name))
    {
        Some(name) => Err(format!("parameters.{name}: must be given")),
        None => Ok(()),
    }
}

fn constraints(list: &[Value]) -> Checked {
    if list.len() > MAX_CONSTRAINTS {
        return Err(format!(": at most {MAX_CONSTRAINTS}"));
    }
    for (place, value) in list.iter().enumerate() {
        let checked = read::<Constraint>(value).and_then(|constraint| constraint.check());
        checked.map_err(|fault| format!("[{place}]: {fault}"))?;
    }
    Ok(())
}

impl Constraint {
    fn check(&self) -> Checked {
        let refuse = |fault: &str| Err(fault.to_owned());
        if !is_context_name(&self.context_name) {
            return refuse("contextName: 1 to 100 bytes without quotes and backslashes");
        }
        let takes_list = matches!(
            self.operator.as_str(),
            "IN" | "NOT_IN" | "STR_STARTS_WITH" | "STR_ENDS_WITH" | "STR_CONTAINS" | "IN_CIDR"
        );
        if takes_list {
            // A list without values can work where it says who is not meant. Of networks one is enough.
            let excludes = self.operator == "NOT_IN" || self.inverted;
            let values = || self.values.iter().map(String::as_str);
            let is_good = match self.operator.as_str() {
                "IN_CIDR" => values().all(is_plain) && values().any(is_network),
                _ => values().all(is_quotable),
            };
            return if self.values.len() > MAX_VALUES || (self.values.is_empty() && !excludes) {
                refuse("values: 1 to 1000")
            } else if is_good {
                Ok(())
            } else if self.operator == "IN_CIDR" {
                refuse("values: addresses or networks")
            } else {
                refuse("values: at most 500 bytes, without backslashes before quotes")
            };
        }
        let value = self.value.as_deref().unwrap_or_default();
        match self.operator.as_str() {
            "NUM_EQ" | "NUM_GT" | "NUM_GTE" | "NUM_LT" | "NUM_LTE" if is_number(value) => Ok(()),
            "DATE_AFTER" | "DATE_BEFORE" if is_time(value) => Ok(()),
            "SEMVER_EQ" | "SEMVER_GT" | "SEMVER_GTE" | "SEMVER_LT" | "SEMVER_LTE"
                if value.len() <= MAX_NAME_BYTES && Version::parse(value).is_ok() =>
            {
                Ok(())
            }
            "REGEX" if is_quotable(value) && !value.is_empty() => {
                let mut pattern = RegexBuilder::new(value);
                pattern
                    .case_insensitive(self.case_insensitive)
                    .size_limit(MAX_PATTERN_MEMORY);
                match pattern.build() {
                    Ok(_) => Ok(()),
                    Err(_) => refuse("value: no regular expression, or too large a one"),
                }
            }
            "NUM_EQ" | "NUM_GT" | "NUM_GTE" | "NUM_LT" | "NUM_LTE" => refuse("value: a number"),
            "DATE_AFTER" | "DATE_BEFORE" => refuse("value: a time such as 2026-01-31T12:00:00Z"),
            "REGEX" => refuse("value: a regular expression of at most 500 bytes"),
            name if name.starts_with("SEMVER_") => refuse("value: a version such as 1.2.3"),
            _ => refuse("operator: there is no such operator"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{Engine, Patterns, context};

    fn constraint(value: Value) -> Option<String> {
        problem(Part::Constraints, &json!([value]))
    }

    /// Whether the engine compiles it to something that is on for everybody or nobody, by its inversion.
    fn compiles(value: &Value) -> bool {
        let mut inverted = value.clone();
        inverted["inverted"] = json!(true);
        let flag = |name: &str, value: &Value| json!({"name": name, "enabled": true, "strategies": [{"name": "default", "constraints": [value]}]});
        let definitions =
            json!({"version": 2, "features": [flag("a", value), flag("b", &inverted)]});
        let engine = Engine::compile(&definitions.to_string(), Patterns::Evaluate).unwrap();
        let all = engine.evaluate_all(&context(Map::new(), "2026-11-29T12:00:00Z"));
        all.iter().filter(|flag| flag.enabled).count() == 1
    }

    #[test]
    fn what_can_work_compiles() {
        for good in [
            json!({"contextName": "userId", "operator": "IN", "values": ["a", "b\"c", "d\\e", ""]}),
            json!({"contextName": "x y", "operator": "STR_CONTAINS", "values": ["a] or true"], "caseInsensitive": true}),
            json!({"contextName": "n", "operator": "NUM_GTE", "value": "-1.5e3"}),
            json!({"contextName": "n", "operator": "NUM_EQ", "value": "5."}),
            json!({"contextName": "currentTime", "operator": "DATE_AFTER", "value": "2026-01-31T12:00:00.123+02:00"}),
            json!({"contextName": "v", "operator": "SEMVER_LT", "value": "1.2.3-beta.1+build"}),
            json!({"contextName": "remoteAddress", "operator": "IN_CIDR", "values": ["10.0.0.0/8", "::1"]}),
            json!({"contextName": "remoteAddress", "operator": "IN_CIDR", "values": ["10.0.0.0/8", "10.0.0.0/33"]}),
            json!({"contextName": "userId", "operator": "NOT_IN", "values": []}),
            json!({"contextName": "email", "operator": "REGEX", "value": "^[a-z]+@example\\.com$"}),
        ] {
            assert_eq!(constraint(good.clone()), None, "{good}");
            assert!(compiles(&good), "{good}");
        }
    }

    #[test]
    fn what_cannot_work_is_named() {
        for bad in [
            json!({"contextName": "userId", "operator": "IN", "values": []}),
            json!({"contextName": "userId", "operator": "IN", "values": ["a\\"]}),
            json!({"contextName": "userId", "operator": "IN", "values": ["a\\\"b"]}),
            json!({"contextName": "a\"] or true", "operator": "IN", "values": ["a"]}),
            json!({"contextName": "n", "operator": "NUM_GT", "value": "5 or true"}),
            json!({"contextName": "n", "operator": "NUM_GT", "value": "inf"}),
            json!({"contextName": "n", "operator": "NUM_GT"}),
            json!({"contextName": "t", "operator": "DATE_AFTER", "value": "2026-01-31"}),
            json!({"contextName": "t", "operator": "DATE_AFTER", "value": "2026-01-31T12:00:00.123456Z"}),
            json!({"contextName": "t", "operator": "DATE_AFTER", "value": "2026-01-31 12:00:00Z"}),
            json!({"contextName": "v", "operator": "SEMVER_EQ", "value": "v1.0.0"}),
            json!({"contextName": "a", "operator": "IN_CIDR", "values": ["10.0.0.0/33"]}),
            json!({"contextName": "a", "operator": "REGEX", "value": "("}),
            json!({"contextName": "a", "operator": "REGEX", "value": "(\\w{100}){100}"}),
            json!({"contextName": "a", "operator": "LIKE", "value": "x"}),
            json!({"contextName": "a", "operator": "IN", "values": ["x"], "more": 1}),
            json!("x"),
        ] {
            assert!(constraint(bad.clone()).is_some(), "{bad}");
        }
    }

    #[test]
    fn strategies_have_their_parameters() {
        let of = |name: &str, parameters: Value| {
            problem(
                Part::Strategy,
                &json!({"name": name, "parameters": parameters}),
            )
        };
        for (name, parameters) in [
            ("default", json!({})),
            (
                "flexibleRollout",
                json!({"rollout": "50", "stickiness": "random"}),
            ),
            ("flexibleRollout", json!({"rollout": "0", "groupId": "a b"})),
            (
                "gradualRolloutUserId",
                json!({"percentage": "1", "groupId": "g"}),
            ),
            ("gradualRolloutRandom", json!({"percentage": "100"})),
            ("userWithId", json!({"userIds": "a, b"})),
            ("remoteAddress", json!({"IPs": "127.0.0.1, 10.0.0.0/8"})),
            ("applicationHostname", json!({"hostNames": "a.example"})),
        ] {
            assert_eq!(of(name, parameters), None, "{name}");
        }
        for (name, parameters) in [
            ("custom", json!({})),
            ("default", json!({"rollout": "1"})),
            ("flexibleRollout", json!({})),
            ("flexibleRollout", json!({"rollout": "101"})),
            ("flexibleRollout", json!({"rollout": 50})),
            (
                "flexibleRollout",
                json!({"rollout": "50", "stickiness": "a\"b"}),
            ),
            ("gradualRolloutUserId", json!({"percentage": "1"})),
            ("userWithId", json!({"userIds": "a,,b"})),
            ("remoteAddress", json!({"IPs": "here"})),
        ] {
            assert!(of(name, parameters).is_some(), "{name}");
        }
        assert!(problem(Part::Strategy, &json!({"name": "default", "sortOrder": 1})).is_some());
    }
}
