//! The claims of an access token. The same keys sign other tokens (an expiring link, for example), which must not give access.
//! Pure.

use serde_json::{Map, Value};

use crate::claims;

/// The audience of everybody who signs in, as GoTrue writes it.
const AUDIENCE: &str = "authenticated";
const USER_ROLE: &str = "authenticated";
/// How far the clocks of two servers may be apart: PostgREST allows as much.
pub const SKEW: f64 = 30.0;

/// The first claim that is missing or wrong; None for an access token. A user's token needs `sub` and `aud`; a key for anon
/// or service_role needs neither.
pub fn fault(claims: &Map<String, Value>, now: i64) -> Option<&'static str> {
    let text = |name| claims.get(name).and_then(Value::as_str);
    let is_user = text("role") == Some(USER_ROLE);
    if text("role").is_none_or(str::is_empty) {
        return Some("role");
    }
    if text("iss").is_none_or(str::is_empty) {
        return Some("iss");
    }
    if !claims.get("exp").is_some_and(Value::is_number) {
        return Some("exp");
    }
    if !is_issued(claims, now) {
        return Some("iat");
    }
    match claims.get("aud") {
        None | Some(Value::Null) if !is_user => {}
        Some(Value::String(audience)) if audience == AUDIENCE => {}
        Some(Value::Array(all)) if all.iter().any(|one| one == AUDIENCE) => {}
        _ => return Some("aud"),
    }
    let subject = text("sub").and_then(claims::parse_uuid);
    (is_user && subject.is_none()).then_some("sub")
}

/// Whether a token has no `iat`, or one that is not in the future.
fn is_issued(claims: &Map<String, Value>, now: i64) -> bool {
    match claims.get("iat") {
        None | Some(Value::Null) => true,
        Some(at) => at.as_f64().is_some_and(|at| at <= now as f64 + SKEW),
    }
}

#[cfg(test)]
mod unit {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn of(changes: Value, base: &Value) -> Option<&'static str> {
        let mut claims = base.as_object().unwrap().clone();
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => claims.remove(name),
                value => claims.insert(name.clone(), value.clone()),
            };
        }
        fault(&claims, NOW)
    }

    #[test]
    fn a_users_token_has_issuer_subject_audience_and_end() {
        let user = json!({
            "iss": "http://127.0.0.1/auth/v1", "sub": "11111111-1111-4111-8111-111111111111", "aud": "authenticated",
            "role": "authenticated", "iat": NOW, "exp": NOW + 60,
        });
        for good in [
            json!({}),
            json!({"aud": ["else", "authenticated"]}),
            json!({"iat": null}),
            json!({"iat": NOW + 30}),
            json!({"exp": 1.5}),
        ] {
            assert_eq!(of(good.clone(), &user), None, "{good}");
        }
        for (bad, expected) in [
            (json!({"role": null}), "role"),
            (json!({"role": ""}), "role"),
            (json!({"role": ["authenticated"]}), "role"),
            (json!({"iss": null}), "iss"),
            (json!({"iss": ""}), "iss"),
            (json!({"iss": 1}), "iss"),
            (json!({"exp": null}), "exp"),
            (json!({"exp": "1900000000"}), "exp"),
            (json!({"iat": NOW + 31}), "iat"),
            (json!({"iat": "yesterday"}), "iat"),
            (json!({"aud": null}), "aud"),
            (json!({"aud": "elsewhere"}), "aud"),
            (json!({"aud": []}), "aud"),
            (json!({"aud": ["elsewhere"]}), "aud"),
            (json!({"aud": {"authenticated": true}}), "aud"),
            (json!({"sub": null}), "sub"),
            (json!({"sub": "me"}), "sub"),
        ] {
            assert_eq!(of(bad.clone(), &user), Some(expected), "{bad}");
        }
    }

    #[test]
    fn a_key_needs_no_subject_and_no_audience_but_no_foreign_one_either() {
        for role in ["anon", "service_role"] {
            let key = json!({"iss": "supabase", "role": role, "iat": NOW, "exp": NOW + 60});
            assert_eq!(of(json!({}), &key), None);
            assert_eq!(of(json!({"aud": "authenticated"}), &key), None);
            for (bad, expected) in [
                (json!({"aud": "elsewhere"}), "aud"),
                (json!({"exp": null}), "exp"),
                (json!({"iss": null}), "iss"),
            ] {
                assert_eq!(of(bad.clone(), &key), Some(expected), "{role} {bad}");
            }
        }
    }
}
