//! The keys that sign and verify tokens. Free of Postgres.

use serde_json::{Map, Value, json};
use thiserror::Error;

use super::key::Key;
use super::token::Token;
use crate::key_file::{self, FileError};

/// Why `kijko.signing_key_file` cannot be used. It never contains any of its content.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum KeyFileError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("it is not PEM")]
    NotPem,
    #[error("it holds no key")]
    Empty,
    #[error(
        "block {0} is not a PKCS#8 private key (BEGIN PRIVATE KEY): RSA of 2048 bits or more, EC of the curve P-256, or Ed25519"
    )]
    NotAKey(usize),
}

/// The first key signs, all of them verify. Each has the one algorithm of its kind: RS256, ES256 or EdDSA.
#[derive(Debug)]
pub struct Keys {
    keys: Vec<Key>,
}

impl Keys {
    pub fn read(path: &str) -> Result<Self, KeyFileError> {
        let pem = key_file::read(path)?;
        Self::parse(&pem)
    }

    pub fn parse(pem: &[u8]) -> Result<Self, KeyFileError> {
        let blocks = pem::parse_many(pem).map_err(|_| KeyFileError::NotPem)?;
        let keys: Vec<Key> = blocks
            .iter()
            .enumerate()
            .map(|(place, block)| Key::parse(block).ok_or(KeyFileError::NotAKey(place + 1)))
            .collect::<Result<_, _>>()?;
        if keys.is_empty() {
            Err(KeyFileError::Empty)
        } else {
            Ok(Self { keys })
        }
    }

    /// The public keys as a JSON Web Key Set.
    pub fn jwks(&self) -> Value {
        json!({ "keys": self.keys.iter().map(|key| &key.public).collect::<Vec<_>>() })
    }

    /// The key of this id, or the one that signs.
    pub fn find(&self, id: Option<&str>) -> Option<&Key> {
        match id {
            Some(id) => self.keys.iter().find(|key| key.id == id),
            None => self.keys.first(),
        }
    }

    /// The claims of a token that one of these keys signed and that is valid now. `kid` chooses the key, and the token's
    /// algorithm must be that key's.
    pub fn verify(&self, token: &str) -> Option<Map<String, Value>> {
        let token = Token::parse(token).ok()?;
        let key = self.find(Some(token.key_id.as_ref()?))?;
        key.verify(token)
    }
}

#[cfg(test)]
mod unit {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, RsaKeyPair,
    };
    use jsonwebtoken::{Algorithm, EncodingKey, Header};

    use super::*;
    use crate::jwt::key::now;

    /// A fresh key, in PEM under a tag. No key lives in the repository.
    fn pem(tag: &str, key: &[u8]) -> String {
        pem::encode(&pem::Pem::new(tag, key))
    }

    fn ec(tag: &str, curve: &'static EcdsaSigningAlgorithm) -> String {
        let key = EcdsaKeyPair::generate_pkcs8(curve, &SystemRandom::new()).unwrap();
        pem(tag, key.as_ref())
    }

    fn p256() -> String {
        ec("PRIVATE KEY", &ECDSA_P256_SHA256_FIXED_SIGNING)
    }

    fn rsa(size: KeySize) -> String {
        let key = RsaKeyPair::generate(size).unwrap();
        let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
        pem("PRIVATE KEY", der.as_ref())
    }

    fn ed25519() -> String {
        let key = Ed25519KeyPair::generate().unwrap();
        pem("PRIVATE KEY", key.to_pkcs8v1().unwrap().as_ref())
    }

    fn keys(pem: &str) -> Keys {
        Keys::parse(pem.as_bytes()).unwrap()
    }

    fn sign(keys: &Keys, claims: &Map<String, Value>) -> Option<String> {
        keys.find(None)?.sign(claims)
    }

    fn claims(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn what_is_signed_is_verified_by_the_algorithm_of_the_key() {
        for (file, kind, algorithm) in [
            (rsa(KeySize::Rsa2048), "RSA", "RS256"),
            (p256(), "EC", "ES256"),
            (ed25519(), "OKP", "EdDSA"),
        ] {
            let keys = keys(&file);
            let payload = claims(json!({ "sub": "x", "aud": "authenticated", "exp": now() + 60 }));
            let token = sign(&keys, &payload).unwrap();
            assert_eq!(keys.verify(&token), Some(payload), "{algorithm}");
            let header = jsonwebtoken::decode_header(&token).unwrap();
            assert_eq!(
                serde_json::to_value(header.alg).unwrap(),
                algorithm,
                "{kind}"
            );
            let public = &keys.jwks()["keys"][0];
            assert_eq!(
                [&public["kty"], &public["alg"], &public["use"]],
                [kind, algorithm, "sig"]
            );
            assert_eq!(
                public["kid"],
                jsonwebtoken::decode_header(&token).unwrap().kid.unwrap()
            );
        }
    }

    #[test]
    fn a_key_does_not_verify_by_another_algorithm() {
        let file = rsa(KeySize::Rsa2048);
        let keys = keys(&file);
        for algorithm in [Algorithm::RS384, Algorithm::RS512, Algorithm::PS256] {
            let header = Header {
                kid: Some(keys.keys[0].id.clone()),
                ..Header::new(algorithm)
            };
            let payload = json!({ "exp": now() + 60 });
            let token = jsonwebtoken::encode(&header, &payload, &keys.keys[0].signing).unwrap();
            assert!(keys.verify(&token).is_none(), "{algorithm:?}");
        }
    }

    #[test]
    fn keys_rotate_across_algorithms() {
        let (former, current) = (p256(), rsa(KeySize::Rsa2048));
        let payload = claims(json!({ "exp": now() + 60 }));
        let old = sign(&keys(&former), &payload).unwrap();
        let both = keys(&format!("{current}\n{former}"));
        assert!(both.verify(&old).is_some());
        let new = sign(&both, &payload).unwrap();
        assert!(keys(&current).verify(&new).is_some());
        assert!(keys(&former).verify(&new).is_none());
    }

    #[test]
    fn keys_rotate() {
        let (first, second) = (p256(), p256());
        let payload = claims(json!({ "exp": now() + 60 }));
        let old = sign(&keys(&first), &payload).unwrap();
        let both = keys(&format!("{second}\n{first}"));
        assert!(both.verify(&old).is_some());
        assert!(keys(&second).verify(&old).is_none());
        let new = sign(&both, &payload).unwrap();
        assert!(keys(&second).verify(&new).is_some());
        assert!(keys(&first).verify(&new).is_none());
        assert_eq!(both.jwks()["keys"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn a_key_that_does_not_sign_yet_is_published_and_verifies() {
        let (current, next) = (p256(), ed25519());
        let payload = claims(json!({ "exp": now() + 60 }));
        let before = keys(&current);
        let both = keys(&format!(
            "# current since 2026-01-01T00:00:00Z\n{current}\n# next since 2026-01-02T00:00:00Z\n{next}"
        ));
        assert_eq!(both.keys.len(), 2, "text between the blocks is ignored");
        let published = &both.jwks()["keys"][1]["kid"];
        let token = both
            .find(published.as_str())
            .unwrap()
            .sign(&payload)
            .unwrap();
        assert!(both.verify(&token).is_some());
        assert!(before.verify(&token).is_none());
        assert!(before.verify(&sign(&both, &payload).unwrap()).is_some());
        assert!(both.find(Some("")).is_none());
    }

    #[test]
    fn any_other_token_is_refused() {
        let keys = keys(&p256());
        let token = |payload: Value| sign(&keys, &claims(payload)).unwrap();
        assert!(
            keys.verify(&token(json!({ "exp": now() - 1 }))).is_none(),
            "expired"
        );
        assert!(
            keys.verify(&token(json!({ "sub": "x" }))).is_none(),
            "without exp"
        );
        assert!(
            keys.verify(&token(json!({ "exp": "tomorrow" }))).is_none(),
            "exp is no number"
        );
        assert!(
            keys.verify(&token(json!({ "exp": now() + 60, "nbf": now() + 30 })))
                .is_none(),
            "not yet"
        );
        assert!(
            keys.verify(&token(json!({ "exp": now() + 600, "iat": now() + 300 })))
                .is_none(),
            "issued in the future"
        );
        assert!(
            keys.verify(&token(json!({ "exp": now() + 60, "a": "\0" })))
                .is_none(),
            "jsonb has no NUL"
        );

        let good = token(json!({ "exp": now() + 60 }));
        let parts: Vec<&str> = good.split('.').collect();
        let other = token(json!({ "exp": now() + 61 }));
        let mixed = format!(
            "{}.{}.{}",
            parts[0],
            other.split('.').nth(1).unwrap(),
            parts[2]
        );
        assert!(keys.verify(&mixed).is_none(), "other claims");
        for text in [
            "",
            "..",
            "a.b.c",
            parts[0],
            &format!("{}.{}.", parts[0], parts[1]),
        ] {
            assert!(keys.verify(text).is_none(), "{text}");
        }

        // The classic: an HMAC with the public key as its secret, and no signature at all.
        let header = Header {
            kid: Some(keys.keys[0].id.clone()),
            ..Header::new(Algorithm::HS256)
        };
        let secret = EncodingKey::from_secret(keys.jwks().to_string().as_bytes());
        let forged = jsonwebtoken::encode(&header, &json!({ "exp": now() + 60 }), &secret).unwrap();
        assert!(keys.verify(&forged).is_none(), "HS256");
        let none = format!("eyJhbGciOiJub25lIn0.{}.", parts[1]);
        assert!(keys.verify(&none).is_none(), "none");

        let header = Header::new(Algorithm::ES256);
        let anonymous = jsonwebtoken::encode(
            &header,
            &json!({ "exp": now() + 60 }),
            &keys.keys[0].signing,
        )
        .unwrap();
        assert!(keys.verify(&anonymous).is_none(), "without kid");
    }

    #[test]
    fn only_public_parts_are_shown() {
        for file in [rsa(KeySize::Rsa2048), p256(), ed25519()] {
            let keys = keys(&file);
            let text = format!("{} {keys:?}", keys.jwks());
            for private in ["d", "p", "q", "dp", "dq", "qi"] {
                assert!(!text.contains(&format!("\"{private}\"")), "{private}");
            }
            let secret: Vec<&str> = file.lines().filter(|line| !line.starts_with('-')).collect();
            assert!(secret.iter().all(|line| !text.contains(line)));
        }
    }

    #[test]
    fn an_error_names_the_fault_and_never_the_content() {
        let error = |pem: &str| Keys::parse(pem.as_bytes()).unwrap_err();
        assert_eq!(error(""), KeyFileError::Empty);
        assert_eq!(error("secret"), KeyFileError::Empty);
        let p384 = ec("PRIVATE KEY", &ECDSA_P384_SHA384_FIXED_SIGNING);
        assert_eq!(error(&p384), KeyFileError::NotAKey(1));
        let sec1 = ec("EC PRIVATE KEY", &ECDSA_P256_SHA256_FIXED_SIGNING);
        assert_eq!(
            error(&format!("{}{sec1}", p256())),
            KeyFileError::NotAKey(2)
        );
        assert_eq!(
            error("-----BEGIN PRIVATE KEY-----\n%%%\n-----END PRIVATE KEY-----\n"),
            KeyFileError::NotPem
        );
    }
}
