//! What all routes of flags need.

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use axum::extract::{FromRequestParts, OptionalFromRequestParts, Path};
use axum::http::{HeaderMap, request::Parts};

use serde_json::{Map, Value};

use super::{counts::Counts, source::Sources};

/// A report of metrics names each flag; a context is smaller.
pub(super) const MAX_BODY_BYTES: usize = 100 << 10;
/// Of a text of a context: an expression searches in it for longer, the longer it is.
const MAX_TEXT_BYTES: usize = 1_000;
pub(super) const TOO_LONG: &str = "context: a text has at most 1000 bytes";

/// What the routes need.
#[derive(Clone)]
pub(super) struct Flags {
    pub sources: Sources,
    pub counts: Arc<Counts>,
}

/// The environment that the path names.
pub(super) struct Environment(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Environment {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let names =
            <Path<HashMap<String, String>> as OptionalFromRequestParts<S>>::from_request_parts(
                parts, state,
            )
            .await;
        let named = names
            .ok()
            .flatten()
            .and_then(|Path(mut names)| names.remove("environment"));
        Ok(Self(named.unwrap_or_else(|| "production".to_owned())))
    }
}

/// Whether no text of a context is too long.
pub(super) fn fits(members: &Map<String, Value>) -> bool {
    let nested = members.get("properties").and_then(Value::as_object);
    let mut values = members
        .values()
        .chain(nested.into_iter().flat_map(Map::values));
    values.all(|value| {
        value
            .as_str()
            .is_none_or(|text| text.len() <= MAX_TEXT_BYTES)
    })
}

/// An entity tag of ours in `If-None-Match`.
pub(super) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    headers
        .get_all("if-none-match")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| known.trim().trim_start_matches("W/") == tag)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_of_a_context_is_bounded_wherever_it_is() {
        let fits = |context: Value| fits(context.as_object().unwrap());
        let long = "x".repeat(MAX_TEXT_BYTES + 1);
        assert!(fits(
            json!({"userId": "x".repeat(MAX_TEXT_BYTES), "properties": {"n": 1, "list": [long]}})
        ));
        assert!(!fits(json!({"userId": long})));
        assert!(!fits(json!({"properties": {"email": long}})));
    }
}
