//! Definitions, compiled: flags with their strategies, and segments, in the form of Unleash's Client API.

use chrono::DateTime;
use serde_json::{Value, json};
use unleash_types::client_features::{
    ClientFeature, ClientFeatures, Constraint, Operator, Segment,
};
use unleash_yggdrasil::{EngineState, ResolvedToggle};

use crate::Context;

/// Whether regular expressions are evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patterns {
    Evaluate,
    /// A flag that has one is off.
    Refuse,
}

/// Compiled definitions. It changes nothing while it evaluates, and reads no clock.
pub struct Engine(EngineState);

/// What a flag answers.
#[derive(Debug, Clone)]
pub struct Evaluation {
    pub name: String,
    pub enabled: bool,
    pub impression_data: bool,
    pub variant: String,
    pub variant_enabled: bool,
    /// Type and value of the variant's payload.
    pub payload: Option<(String, String)>,
}

impl Engine {
    /// Compiles definitions. The error says what is no definition; a flag that cannot be compiled is off.
    pub fn compile(definitions: &str, patterns: Patterns) -> Result<Self, String> {
        let mut features: ClientFeatures =
            serde_json::from_str(definitions).map_err(|error| error.to_string())?;
        features.features.iter_mut().for_each(drop_weightless);
        if patterns == Patterns::Refuse {
            refuse_patterns(&mut features);
        }
        let state = EngineState::initial_state(DateTime::UNIX_EPOCH);
        // The warnings name flags that are off because they cannot be compiled.
        state.apply_client_features(features);
        Ok(Self(state))
    }

    /// None: there is no such flag.
    pub fn evaluate(&self, name: &str, context: &Context) -> Option<Evaluation> {
        let toggle = self.0.resolve(name, context, &None)?;
        Some(Evaluation::new(name.to_owned(), toggle))
    }

    /// All flags, by name.
    pub fn evaluate_all(&self, context: &Context) -> Vec<Evaluation> {
        let toggles = self.0.resolve_all(context, &None).unwrap_or_default();
        let mut all: Vec<_> = toggles
            .into_iter()
            .map(|(name, toggle)| Evaluation::new(name, toggle))
            .collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }
}

impl Evaluation {
    fn new(name: String, toggle: ResolvedToggle) -> Self {
        Self {
            name,
            enabled: toggle.enabled,
            impression_data: toggle.impression_data,
            variant: toggle.variant.name,
            variant_enabled: toggle.variant.enabled,
            payload: toggle
                .variant
                .payload
                .map(|payload| (payload.payload_type, payload.value)),
        }
    }

    /// The variant as Unleash's clients have it.
    pub fn variant(&self) -> Value {
        let mut variant = json!({
            "name": self.variant, "enabled": self.variant_enabled, "feature_enabled": self.enabled,
        });
        if let Some((kind, value)) = &self.payload {
            variant["payload"] = json!({"type": kind, "value": value});
        }
        variant
    }

    /// The flag as Unleash's Frontend API lists it.
    pub fn toggle(&self) -> Value {
        json!({
            "name": self.name, "enabled": self.enabled, "impressionData": self.impression_data, "variant": self.variant(),
        })
    }
}

/// The engine divides by the sum of the weights, which it takes for positive.
fn is_usable(weights: impl Iterator<Item = i32>) -> bool {
    let weights: Vec<i64> = weights.map(i64::from).collect();
    weights.iter().all(|weight| *weight >= 0)
        && (1..=1_000_000).contains(&weights.iter().sum::<i64>())
}

fn drop_weightless(feature: &mut ClientFeature) {
    for strategy in feature.strategies.iter_mut().flatten() {
        let variants = &mut strategy.variants;
        variants.take_if(|list| !is_usable(list.iter().map(|variant| variant.weight)));
    }
    let variants = &mut feature.variants;
    variants.take_if(|list| !is_usable(list.iter().map(|variant| variant.weight)));
}

fn refuse_patterns(features: &mut ClientFeatures) {
    // The engine compiles no unknown operator, and a flag that it cannot compile is off.
    let refuse = |constraints: &mut Vec<Constraint>| {
        for constraint in constraints {
            if constraint.operator == Operator::RegexMatch {
                constraint.operator = Operator::Unknown("REGEX".to_owned());
            }
        }
    };
    let strategies = features.features.iter_mut();
    for strategy in strategies.flat_map(|flag| flag.strategies.iter_mut().flatten()) {
        strategy.constraints.iter_mut().for_each(refuse);
    }
    let segments = features.segments.iter_mut().flatten();
    segments.for_each(|segment: &mut Segment| refuse(&mut segment.constraints));
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::context;

    fn asked(definitions: &Value, patterns: Patterns, members: &Value) -> Vec<(String, bool)> {
        let engine = Engine::compile(&definitions.to_string(), patterns).unwrap();
        let members = members.as_object().cloned().unwrap_or_default();
        let all = engine.evaluate_all(&context(members, "2026-11-29T12:00:00Z"));
        all.into_iter()
            .map(|flag| (flag.name, flag.enabled))
            .collect()
    }

    #[test]
    fn the_time_is_the_callers() {
        let definitions = json!({"version": 2, "features": [{"name": "launch", "enabled": true, "strategies": [
            {"name": "default", "constraints": [{"contextName": "currentTime", "operator": "DATE_AFTER", "value": "2026-11-29T11:00:00Z"}]}
        ]}]});
        let at = |time: Value| {
            asked(
                &definitions,
                Patterns::Evaluate,
                &json!({"currentTime": time}),
            )[0]
            .1
        };
        assert!(at(Value::Null) && !at(json!("2026-11-29T10:00:00Z")));
    }

    #[test]
    fn a_flag_with_an_expression_is_off_where_none_is_evaluated() {
        let pattern = json!({"contextName": "userId", "operator": "REGEX", "value": "^a"});
        let definitions = json!({"version": 2, "segments": [{"id": 1, "constraints": [pattern]}], "features": [
            {"name": "own", "enabled": true, "strategies": [{"name": "default", "constraints": [pattern]}]},
            {"name": "plain", "enabled": true, "strategies": []},
            {"name": "segment", "enabled": true, "strategies": [{"name": "default", "segments": [1]}]},
        ]});
        let asked = |patterns| asked(&definitions, patterns, &json!({"userId": "abc"}));
        assert!(
            asked(Patterns::Evaluate)
                .iter()
                .all(|(_, enabled)| *enabled)
        );
        let on: Vec<_> = asked(Patterns::Refuse)
            .into_iter()
            .filter(|(_, on)| *on)
            .collect();
        assert_eq!(on, [("plain".to_owned(), true)]);
    }

    #[test]
    fn variants_without_weight_are_none() {
        let engine = Engine::compile(
            &json!({"version": 2, "features": [{"name": "a", "enabled": true, "strategies": [], "variants": [
                {"name": "x", "weight": 0}, {"name": "y", "weight": 0}
            ]}, {"name": "b", "enabled": true, "strategies": [{"name": "default", "variants": [{"name": "x", "weight": -1}]}]}]})
            .to_string(),
            Patterns::Evaluate,
        )
        .unwrap();
        for name in ["a", "b"] {
            let found = engine.evaluate(name, &context(Map::new(), "")).unwrap();
            assert!(found.enabled && !found.variant_enabled, "{found:?}");
        }
        assert!(engine.evaluate("c", &context(Map::new(), "")).is_none());
    }
}
