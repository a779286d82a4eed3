//! One key that signs and verifies tokens, by the one algorithm of its kind. Free of Postgres.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use serde_json::{Map, Value, json};

use super::access::SKEW;
use super::jwk::VerifyingKey;
use super::rules::Rules;
use super::token::Token;

pub struct Key {
    /// The RFC 7638 thumbprint.
    pub id: String,
    algorithm: Algorithm,
    pub(super) signing: EncodingKey,
    verifying: VerifyingKey,
    pub public: Value,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

/// Unix time.
pub fn now() -> i64 {
    i64::try_from(jsonwebtoken::get_current_timestamp()).unwrap_or(i64::MAX)
}

impl Key {
    /// Signs the claims unchanged. None when the key cannot sign, which parsing has excluded.
    pub fn sign(&self, claims: &Map<String, Value>) -> Option<String> {
        let algorithm = serde_json::to_value(self.algorithm).ok()?;
        // The first member tells the proxy that the token is ours: it moves every other one away from PostgREST.
        let header = format!(
            r#"{{"kijko":1,"typ":"JWT","alg":{algorithm},"kid":"{}"}}"#,
            self.id
        );
        let claims = serde_json::to_string(claims).ok()?;
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
        let message = format!("{header}.{claims}");
        let signature = crypto::sign(message.as_bytes(), &self.signing, self.algorithm).ok()?;
        Some(format!("{message}.{signature}"))
    }

    /// The claims of a token that this key signed by its algorithm and that is valid now. Their purpose is the caller's to check.
    pub fn verify(&self, token: Token<'_>) -> Option<Map<String, Value>> {
        self.verifying.verify(&token).ok()?;
        let rules = Rules {
            now: now() as f64,
            leeway: 0.0,
            issued_leeway: SKEW,
            parties: None,
        };
        rules.check(&token.claims).ok()?;
        Some(token.claims)
    }

    pub fn parse(block: &pem::Pem) -> Option<Self> {
        if block.tag() != "PRIVATE KEY" {
            return None;
        }
        let (algorithm, signing) = signing_key(pem::encode(block).as_bytes())?;
        let jwk = Jwk::from_encoding_key(&signing, algorithm).ok()?;
        let verifying = VerifyingKey::new(algorithm, DecodingKey::from_jwk(&jwk).ok()?);
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
        let proof = key.sign(json!({ "exp": u32::MAX }).as_object()?)?;
        key.verify(Token::parse(&proof).ok()?)?;
        Some(key)
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
