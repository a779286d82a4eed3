//! Header fields that go to the database, and those that come back.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

/// Who the caller is, which organization they mean, and where they come from: for the limits of addresses, and for publishable keys,
/// which name the origins of their pages. The proxy's id of the request: under it the database notes the caller.
pub(crate) const IDENTITY: [&str; 8] = [
    "authorization",
    "x-api-key",
    "x-kijko-token",
    "x-org-id",
    "origin",
    "x-forwarded-for",
    "x-request-id",
    "x-kijko-request",
];

/// What an answer says of limits.
const LIMIT_HEADERS: [&str; 7] = [
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-ratelimit-resource",
];

/// Those of an answer that say what is left of limits.
pub(super) fn limit_headers(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in LIMIT_HEADERS {
        if let Some(value) = headers.get(name)
            && let Ok(value) = HeaderValue::from_bytes(value.as_bytes())
        {
            kept.insert(HeaderName::from_static(name), value);
        }
    }
    kept
}

/// Those of some headers, as the database names them, that say something of limits.
pub(super) fn limits<'a>(headers: impl IntoIterator<Item = (&'a String, &'a Value)>) -> HeaderMap {
    let named = headers.into_iter().filter_map(|(name, value)| {
        let name = name.to_ascii_lowercase();
        let name = LIMIT_HEADERS.into_iter().find(|limit| *limit == name)?;
        let value = HeaderValue::from_str(value.as_str()?).ok()?;
        Some((HeaderName::from_static(name), value))
    });
    named.collect()
}
