//! Signatures of Standard Webhooks (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).
//! Free of Postgres.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

const MAX_SECRETS: usize = 10;
const MAX_ID: usize = 200;
/// A shared secret for HMAC-SHA256.
const SYMMETRIC: &str = "whsec_";
/// A private key of Ed25519: its seed, or seed and public key.
const ASYMMETRIC: &str = "whsk_";
/// Its public key.
const PUBLIC: &str = "whpk_";

/// The column `signing` of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Signing {
    /// The header `webhook-id`.
    pub id: String,
    /// Names of secrets. Several while one is rotated: the receiver accepts any.
    pub secrets: Vec<String>,
}

impl Signing {
    pub fn parse(signing: &Value) -> Option<Self> {
        let signing = signing.as_object().filter(|signing| signing.len() == 2)?;
        let id = signing.get("id")?.as_str()?;
        let plain = id
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'.');
        let secrets = signing.get("secrets")?.as_array()?;
        let names: Vec<_> = secrets.iter().filter_map(Value::as_str).collect();
        let fits = plain
            && (1..=MAX_ID).contains(&id.len())
            && names.len() == secrets.len()
            && (1..=MAX_SECRETS).contains(&names.len());
        fits.then(|| Self {
            id: id.to_owned(),
            secrets: names.into_iter().map(str::to_owned).collect(),
        })
    }
}

/// The header `webhook-signature`: one signature for each different secret. None when one of them is no secret.
pub fn signatures<'a>(
    id: &str,
    unix_seconds: u64,
    body: &str,
    secrets: impl Iterator<Item = &'a str>,
) -> Option<String> {
    let signed = format!("{id}.{unix_seconds}.{body}");
    let each = secrets.map(|secret| signature(secret, signed.as_bytes()));
    let mut all: Vec<_> = each.collect::<Option<_>>()?;
    // Between rotations both names of a webhook's secret have the same one.
    all.dedup();
    Some(all.join(" "))
}

/// The public key of a private one, as receivers get it; None for any other text.
pub fn public_key(secret: &str) -> Option<String> {
    let key = private_key(secret.strip_prefix(ASYMMETRIC)?)?;
    Some(format!("{PUBLIC}{}", STANDARD.encode(key.public_key())))
}

fn private_key(seed: &str) -> Option<Ed25519KeyPair> {
    let seed = STANDARD.decode(seed).ok()?;
    Ed25519KeyPair::from_seed_unchecked(seed.get(..32)?).ok()
}

fn signature(secret: &str, signed: &[u8]) -> Option<String> {
    if let Some(seed) = secret.strip_prefix(ASYMMETRIC) {
        let key = private_key(seed)?;
        return Some(format!("v1a,{}", STANDARD.encode(key.sign(signed))));
    }
    let secret = STANDARD.decode(secret.strip_prefix(SYMMETRIC)?).ok()?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    Some(format!("v1,{}", STANDARD.encode(hmac::sign(&key, signed))))
}

#[cfg(test)]
mod unit {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_specifications_example() {
        // From the specification's reference libraries.
        let signature = signatures(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
            ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"].into_iter(),
        );
        assert_eq!(
            signature.as_deref(),
            Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
        );
    }

    #[test]
    fn every_secret_signs() {
        let ed25519 = format!("whsk_{}", STANDARD.encode([7; 32]));
        let both = signatures("msg_1", 1, "{}", ["whsec_AAAA", &ed25519].into_iter()).unwrap();
        let kinds: Vec<_> = both
            .split(' ')
            .map(|one| one.split_once(',').unwrap().0)
            .collect();
        assert_eq!(kinds, ["v1", "v1a"]);
        assert_eq!(signatures("msg_1", 1, "{}", ["plain"].into_iter()), None);
    }

    #[test]
    fn equal_secrets_sign_once() {
        let one = signatures("msg_1", 1, "{}", ["whsec_AAAA"].into_iter());
        let two = signatures("msg_1", 1, "{}", ["whsec_AAAA", "whsec_AAAA"].into_iter());
        assert_eq!(one, two);
    }

    #[test]
    fn the_public_key_is_that_of_the_seed() {
        // RFC 8032, section 7.1, test 1.
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let bytes = |hex: &str| -> Vec<u8> {
            let pairs = (0..hex.len()).step_by(2);
            pairs
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                .collect()
        };
        assert_eq!(
            public_key(&format!("whsk_{}", STANDARD.encode(bytes(seed)))),
            Some(format!("whpk_{}", STANDARD.encode(bytes(public))))
        );
        assert_eq!(public_key("whsec_AAAA"), None);
        assert_eq!(public_key("whsk_AAAA"), None);
    }

    #[test]
    fn only_its_two_members() {
        let parse = |signing: Value| Signing::parse(&signing);
        assert!(parse(json!({"id": "msg_1", "secrets": ["a"]})).is_some());
        for signing in [
            json!(null),
            json!({"id": "msg_1"}),
            json!({"id": "msg_1", "secrets": []}),
            json!({"id": "msg_1", "secrets": [1]}),
            json!({"id": "msg.1", "secrets": ["a"]}),
            json!({"id": "", "secrets": ["a"]}),
            json!({"id": "msg_1", "secrets": ["a"], "more": 1}),
        ] {
            assert_eq!(parse(signing.clone()), None, "{signing}");
        }
    }
}
