//! Signed URLs: JSON web tokens with a key of storage's own. A user's token is no signature, and a token for one purpose none
//! for another: each purpose has a key that is derived from the secret.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use kijko_core::secret::Secret;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::error::{StorageError, invalid_signature, refusal};

/// What a signed URL is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Reading an object.
    Download,
    /// Writing one.
    Upload,
}

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// `bucket/path`.
    pub url: String,
    /// The purpose.
    pub scope: Scope,
    /// Who may write, for uploads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The signer, for whom uploads are admitted and counted; None for `service_role`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<Value>,
    /// The object that was there, which an upload may replace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Uuid>,
    /// Whether an object may be replaced, for uploads.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub upsert: bool,
    /// When it was signed, in seconds since 1970.
    pub iat: u64,
    /// When it ends.
    pub exp: u64,
}

struct Pair {
    download: hmac::Key,
    upload: hmac::Key,
}

/// The keys.
pub struct Signer(Vec<Pair>);

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

impl Signer {
    /// The first secret signs, all of them verify.
    pub fn new(secrets: &[Secret]) -> Self {
        let derived = |secret: &Secret, purpose: &str| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
            let key = hmac::sign(&key, format!("kijko storage {purpose}").as_bytes());
            hmac::Key::new(hmac::HMAC_SHA256, key.as_ref())
        };
        let pairs = secrets.iter().map(|secret| Pair {
            download: derived(secret, "download"),
            upload: derived(secret, "upload"),
        });
        Self(pairs.collect())
    }

    fn keys(&self, scope: Scope) -> impl Iterator<Item = &hmac::Key> {
        self.0.iter().map(move |pair| match scope {
            Scope::Download => &pair.download,
            Scope::Upload => &pair.upload,
        })
    }

    /// A token.
    pub fn sign(&self, claims: &Claims) -> String {
        let body = serde_json::to_vec(claims).unwrap_or_default();
        let text = format!("{}.{}", BASE64.encode(HEADER), BASE64.encode(body));
        let key = self.keys(claims.scope).next().expect("there is a key");
        let signature = hmac::sign(key, text.as_bytes());
        format!("{text}.{}", BASE64.encode(signature))
    }

    /// The claims of a token that is valid now, for this purpose and this object.
    pub fn verify(&self, token: &str, scope: Scope, url: &str) -> Result<Claims, StorageError> {
        let invalid = || {
            refusal(
                "InvalidJWT",
                400,
                "InvalidJWT",
                "the token of the signed URL is malformed",
            )
        };
        let (text, signature) = token.rsplit_once('.').ok_or_else(invalid)?;
        let signature = BASE64.decode(signature).map_err(|_| invalid())?;
        if !self
            .keys(scope)
            .any(|key| hmac::verify(key, text.as_bytes(), &signature).is_ok())
        {
            return Err(invalid_signature());
        }
        let body = text.split_once('.').ok_or_else(invalid)?.1;
        let body = BASE64.decode(body).map_err(|_| invalid())?;
        let claims: Claims = serde_json::from_slice(&body).map_err(|_| invalid())?;
        if claims.scope != scope || claims.url != url {
            return Err(invalid_signature());
        }
        if claims.exp <= now() {
            return Err(refusal(
                "ExpiredToken",
                400,
                "ExpiredToken",
                "The provided token has expired.",
            ));
        }
        Ok(claims)
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.repeat(32))
    }

    fn claims(scope: Scope) -> Claims {
        Claims {
            url: "b/a".into(),
            scope,
            owner: None,
            signer: None,
            replaces: None,
            upsert: false,
            iat: now(),
            exp: now() + 60,
        }
    }

    #[test]
    fn a_token_is_for_one_purpose_and_one_object() {
        let signer = Signer::new(&[secret("a")]);
        let token = signer.sign(&claims(Scope::Download));
        assert!(signer.verify(&token, Scope::Download, "b/a").is_ok());
        let code = |scope, url| signer.verify(&token, scope, url).unwrap_err().code;
        assert_eq!(code(Scope::Upload, "b/a"), "InvalidSignature");
        assert_eq!(code(Scope::Download, "b/b"), "InvalidSignature");
        assert_eq!(
            signer
                .verify("no token", Scope::Download, "b/a")
                .unwrap_err()
                .code,
            "InvalidJWT"
        );
    }

    #[test]
    fn a_token_ends_and_its_key_may_change() {
        let old = Signer::new(&[secret("a")]);
        let both = Signer::new(&[secret("b"), secret("a")]);
        let token = old.sign(&claims(Scope::Upload));
        assert!(both.verify(&token, Scope::Upload, "b/a").is_ok());
        assert!(
            old.verify(&both.sign(&claims(Scope::Upload)), Scope::Upload, "b/a")
                .is_err()
        );
        let ended = old.sign(&Claims {
            exp: now() - 1,
            ..claims(Scope::Upload)
        });
        assert_eq!(
            old.verify(&ended, Scope::Upload, "b/a").unwrap_err().code,
            "ExpiredToken"
        );
    }

    #[test]
    fn claims_that_were_changed_are_refused() {
        let signer = Signer::new(&[secret("a")]);
        let token = signer.sign(&claims(Scope::Download));
        let (head, signature) = token.rsplit_once('.').unwrap();
        let forged = serde_json::to_vec(&Claims {
            url: "b/b".into(),
            ..claims(Scope::Download)
        })
        .unwrap();
        let forged = format!(
            "{}.{}.{signature}",
            head.split_once('.').unwrap().0,
            BASE64.encode(forged)
        );
        assert_eq!(
            signer
                .verify(&forged, Scope::Download, "b/b")
                .unwrap_err()
                .code,
            "InvalidSignature"
        );
    }
}
