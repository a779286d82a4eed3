//! What an issuer publishes: its discovery document and its key set. A stranger wrote both, so they are read strictly, and of
//! the keys only public members of usable ones are kept.

use pgrx::JsonB;
use pgrx::prelude::*;
use serde_json::{Map, Value, json};

use crate::jwt::{jwk, strict_json};

/// Members of a public key that are kept.
const MEMBERS: [&str; 10] = [
    "kty", "kid", "use", "key_ops", "alg", "n", "e", "crv", "x", "y",
];

/// A JSON object with each member once; null for anything else.
#[pg_extern(immutable, parallel_safe)]
fn issuer_document(body: &[u8]) -> Option<JsonB> {
    Some(JsonB(Value::Object(strict_json::object(body)?)))
}

/// The usable keys of a JSON Web Key Set, as such a set; null for what is none.
#[pg_extern(immutable, parallel_safe)]
fn issuer_keys(body: &[u8]) -> Option<JsonB> {
    Some(JsonB(json!({ "keys": keys(body)? })))
}

fn keys(body: &[u8]) -> Option<Vec<Value>> {
    let set = strict_json::object(body)?;
    let keys = set.get("keys")?.as_array()?;
    if keys.len() > jwk::MAX_KEYS {
        return None;
    }
    let keys = keys.iter().filter_map(Value::as_object).filter_map(public);
    Some(keys.map(Value::Object).collect())
}

/// A published secret would let everybody sign, so it is no key; nor is one that comes with its private part.
fn public(key: &Map<String, Value>) -> Option<Map<String, Value>> {
    if key.contains_key("d") || !jwk::is_asymmetric(key) {
        return None;
    }
    let kept = |(name, value): (&String, &Value)| {
        let is_kept = MEMBERS.contains(&name.as_str());
        is_kept.then(|| (name.clone(), value.clone()))
    };
    Some(key.iter().filter_map(kept).collect())
}

#[cfg(test)]
mod unit {
    use super::*;

    const GOOD: &str = r#"{"kty":"EC","crv":"P-256","kid":"a","x5c":["MIIB"],"use":"sig","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;

    #[test]
    fn only_public_keys_are_kept() {
        let set = |more: &str| format!(r#"{{"keys":[{GOOD}{more}]}}"#);
        for more in [
            "",
            r#",{"kty":"oct","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","alg":"HS256","kid":"b"}"#,
            r#",{"kty":"EC","crv":"P-521","kid":"b"}"#,
            r#",{"kty":"EC","crv":"P-256","kid":"b","d":"AAAA"}"#,
            r#",{"kty":"RSA","kid":"b","n":"AQAB","e":"AQAB"}"#,
            r#",{"use":"enc"},null,1,"x",[]"#,
        ] {
            let kept = keys(set(more).as_bytes()).unwrap();
            assert_eq!(kept.len(), 1, "{more}");
            assert_eq!((&kept[0]["kid"], kept[0].get("x5c")), (&json!("a"), None));
        }
    }

    #[test]
    fn anything_else_is_no_key_set() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"keys":{}}"#,
            r#"{"keys":[],"keys":[]}"#,
            "<html>",
        ] {
            assert!(keys(text.as_bytes()).is_none(), "{text}");
        }
        let many = format!(
            r#"{{"keys":[{}{GOOD}]}}"#,
            format!("{GOOD},").repeat(jwk::MAX_KEYS)
        );
        assert!(keys(many.as_bytes()).is_none());
    }
}
