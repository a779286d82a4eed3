//! The keys that sign and verify tokens. Free of Postgres.

use std::fmt;

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::access;
use crate::claims;
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

struct Key {
    /// The RFC 7638 thumbprint.
    id: String,
    algorithm: Algorithm,
    signing: EncodingKey,
    verifying: DecodingKey,
    public: Value,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
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

    /// Signs the claims unchanged. None when the key cannot sign, which parsing has excluded.
    pub fn sign(&self, claims: &Map<String, Value>) -> Option<String> {
        let key = &self.keys[0];
        let header = Header {
            kid: Some(key.id.clone()),
            ..Header::new(key.algorithm)
        };
        jsonwebtoken::encode(&header, claims, &key.signing).ok()
    }

    /// The claims of a token that one of these keys signed and that is valid now. `kid` chooses the key, and the token's
    /// algorithm must be that key's.
    pub fn verify(&self, token: &str) -> Option<Map<String, Value>> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        let id = header.kid?;
        let key = self.keys.iter().find(|key| key.id == id)?;
        if header.alg != key.algorithm {
            return None;
        }
        let mut rules = Validation::new(key.algorithm);
        rules.set_required_spec_claims(&["exp"]);
        rules.leeway = 0;
        rules.validate_exp = true;
        rules.validate_nbf = true;
        rules.validate_aud = false; // the caller checks it: only the caller knows the purpose of the token
        match jsonwebtoken::decode::<Value>(token, &key.verifying, &rules)
            .ok()?
            .claims
        {
            claims if !claims::storable(&claims) => None,
            Value::Object(claims) => access::is_issued(&claims, now()).then_some(claims),
            _ => None,
        }
    }
}

/// Unix time.
fn now() -> i64 {
    i64::try_from(jsonwebtoken::get_current_timestamp()).unwrap_or(i64::MAX)
}

impl Key {
    fn parse(block: &pem::Pem) -> Option<Self> {
        if block.tag() != "PRIVATE KEY" {
            return None;
        }
        let (algorithm, signing) = signing_key(pem::encode(block).as_bytes())?;
        let jwk = Jwk::from_encoding_key(&signing, algorithm).ok()?;
        let verifying = DecodingKey::from_jwk(&jwk).ok()?;
        let id = jwk.thumbprint(ThumbprintHash::SHA256).ok()?;
        let mut public = match &jwk.algorithm {
            AlgorithmParameters::RSA(key) => json!({ "kty": "RSA", "n": key.n, "e": key.e }),
            AlgorithmParameters::EllipticCurve(point) => {
                json!({ "kty": "EC", "crv": "P-256", "x": point.x, "y": point.y })
            }
            AlgorithmParameters::OctetKeyPair(key) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": key.x })
            }
            _ => return None,
        };
        public["alg"] = serde_json::to_value(algorithm).ok()?;
        public["use"] = "sig".into();
        public["kid"] = id.clone().into();
        let key = Self {
            id,
            algorithm,
            signing,
            verifying,
            public,
        };
        // A key of another curve or of too few bits gets this far, so it has to sign and verify once.
        let keys = Keys { keys: vec![key] };
        let proof = keys.sign(json!({ "exp": u32::MAX }).as_object()?)?;
        keys.verify(&proof)?;
        keys.keys.into_iter().next()
    }
}

/// The key in a PKCS#8 block, with the algorithm that its kind signs by.
fn signing_key(pem: &[u8]) -> Option<(Algorithm, EncodingKey)> {
    let read = [
        (
            Algorithm::RS256,
            EncodingKey::from_rsa_pem as fn(&[u8]) -> _,
        ),
        (Algorithm::ES256, EncodingKey::from_ec_pem),
        (Algorithm::EdDSA, EncodingKey::from_ed_pem),
    ];
    read.into_iter()
        .find_map(|(algorithm, read)| Some((algorithm, read(pem).ok()?)))
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

    use super::*;

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
            let token = keys.sign(&payload).unwrap();
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
        let old = keys(&former)
            .sign(&claims(json!({ "exp": now() + 60 })))
            .unwrap();
        let both = keys(&format!("{current}\n{former}"));
        assert!(both.verify(&old).is_some());
        let new = both.sign(&claims(json!({ "exp": now() + 60 }))).unwrap();
        assert!(keys(&current).verify(&new).is_some());
        assert!(keys(&former).verify(&new).is_none());
    }

    #[test]
    fn keys_rotate() {
        let (first, second) = (p256(), p256());
        let payload = claims(json!({ "exp": now() + 60 }));
        let old = keys(&first).sign(&payload).unwrap();
        let both = keys(&format!("{second}\n{first}"));
        assert!(both.verify(&old).is_some());
        assert!(keys(&second).verify(&old).is_none());
        let new = both.sign(&payload).unwrap();
        assert!(keys(&second).verify(&new).is_some());
        assert!(keys(&first).verify(&new).is_none());
        assert_eq!(both.jwks()["keys"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn any_other_token_is_refused() {
        let keys = keys(&p256());
        let token = |payload: Value| keys.sign(&claims(payload)).unwrap();
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
