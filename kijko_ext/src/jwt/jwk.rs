//! Keys that verify tokens, read from a JSON Web Key Set. A key has one algorithm: the one that it names, or else the usual
//! one of its kind. Free of Postgres.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use super::token::Token;
use super::token_error::TokenError;

/// More keys than an issuer has; each costs time to look at.
pub const MAX_KEYS: usize = 100;
/// Several keys of one id are tried, one after the other.
const MAX_CANDIDATES: usize = 4;

const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

#[derive(Clone)]
pub struct VerifyingKey {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({:?})", self.algorithm)
    }
}

impl VerifyingKey {
    pub fn new(algorithm: Algorithm, key: DecodingKey) -> Self {
        Self { algorithm, key }
    }

    /// Whether this key has signed the token, by the key's own algorithm.
    pub fn verify(&self, token: &Token<'_>) -> Result<(), TokenError> {
        if token.algorithm != self.algorithm {
            return Err(TokenError::AlgorithmMismatch);
        }
        let message = token.message.as_bytes();
        match jsonwebtoken::crypto::verify(token.signature, message, &self.key, self.algorithm) {
            Ok(true) => Ok(()),
            _ => Err(TokenError::SignatureInvalid),
        }
    }

    fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, TokenError> {
        if !is_for_verifying(jwk) {
            return Err(TokenError::KeyUnusable);
        }
        let algorithm = algorithm(jwk)?;
        let key = match algorithm {
            Algorithm::HS256 => secret(jwk, 32)?,
            Algorithm::HS384 => secret(jwk, 48)?,
            Algorithm::HS512 => secret(jwk, 64)?,
            Algorithm::ES256 => point(jwk, 32)?,
            Algorithm::ES384 => point(jwk, 48)?,
            Algorithm::EdDSA => DecodingKey::from_ed_der(&exactly(jwk, "x", 32)?),
            _ => rsa(jwk)?,
        };
        Ok(Self { algorithm, key })
    }
}

/// The claims of the token, whose signature one of the set's keys has made.
pub fn verify(token: Token<'_>, jwks: &Value) -> Result<Map<String, Value>, TokenError> {
    let keys = jwks.get("keys").and_then(Value::as_array);
    let keys = keys.filter(|keys| keys.len() <= MAX_KEYS);
    let keys = keys.ok_or(TokenError::KeysInvalid)?;
    let candidates: Vec<_> = keys
        .iter()
        .filter_map(Value::as_object)
        .filter(|jwk| is_candidate(jwk, &token))
        .collect();
    let mut result = Err(TokenError::KeyUnknown);
    if token.key_id.is_none() && candidates.len() > 1 {
        return Err(TokenError::KeyAmbiguous);
    }
    for jwk in candidates.into_iter().take(MAX_CANDIDATES) {
        result = VerifyingKey::from_jwk(jwk).and_then(|key| key.verify(&token));
        if result.is_ok() {
            break;
        }
    }
    result.map(|()| token.claims)
}

/// Whether a key can verify, and says nothing that would let somebody sign.
pub fn is_asymmetric(jwk: &Map<String, Value>) -> bool {
    jwk.get("kty").is_some_and(|kind| kind != "oct") && VerifyingKey::from_jwk(jwk).is_ok()
}

/// Whether the key may be the one that the token names. Without a name, any key of the token's algorithm may be.
fn is_candidate(jwk: &Map<String, Value>, token: &Token<'_>) -> bool {
    let id = jwk.get("kid").and_then(Value::as_str);
    match &token.key_id {
        Some(wanted) => id == Some(wanted),
        None => is_for_verifying(jwk) && algorithm(jwk).is_ok_and(|own| own == token.algorithm),
    }
}

fn is_for_verifying(jwk: &Map<String, Value>) -> bool {
    let is_signature = jwk.get("use").is_none_or(|purpose| purpose == "sig");
    let verifies = match jwk.get("key_ops") {
        None => true,
        Some(operations) => operations
            .as_array()
            .is_some_and(|operations| operations.iter().any(|one| one == "verify")),
    };
    is_signature && verifies
}

/// The one algorithm of a key, which its kind and its curve must fit.
fn algorithm(jwk: &Map<String, Value>) -> Result<Algorithm, TokenError> {
    use Algorithm::{
        ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512,
    };
    let text = |name| jwk.get(name).and_then(Value::as_str);
    // The first is the algorithm of a key that names none.
    let possible: &[Algorithm] = match (text("kty"), text("crv")) {
        (Some("RSA"), None) => &[RS256, RS384, RS512, PS256, PS384, PS512],
        (Some("EC"), Some("P-256")) => &[ES256],
        (Some("EC"), Some("P-384")) => &[ES384],
        (Some("OKP"), Some("Ed25519")) => &[EdDSA],
        (Some("oct"), None) => &[HS256, HS384, HS512],
        _ => &[],
    };
    let named = match jwk.get("alg") {
        None => possible.first().copied(),
        Some(name) => name
            .as_str()
            .and_then(|name| Algorithm::from_str(name).ok())
            .filter(|algorithm| possible.contains(algorithm)),
    };
    named.ok_or(TokenError::KeyUnusable)
}

fn bytes(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, TokenError> {
    let text = jwk.get(name).and_then(Value::as_str);
    text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
        .ok_or(TokenError::KeyUnusable)
}

fn exactly(jwk: &Map<String, Value>, name: &str, length: usize) -> Result<Vec<u8>, TokenError> {
    let bytes = bytes(jwk, name)?;
    match bytes.len() == length {
        true => Ok(bytes),
        false => Err(TokenError::KeyUnusable),
    }
}

/// RFC 7518 wants a secret of at least the size of the hash.
fn secret(jwk: &Map<String, Value>, least: usize) -> Result<DecodingKey, TokenError> {
    let secret = bytes(jwk, "k")?;
    match secret.len() >= least {
        true => Ok(DecodingKey::from_secret(&secret)),
        false => Err(TokenError::KeyUnusable),
    }
}

/// An uncompressed point. That it lies on its curve is checked when it verifies.
fn point(jwk: &Map<String, Value>, size: usize) -> Result<DecodingKey, TokenError> {
    let (x, y) = (exactly(jwk, "x", size)?, exactly(jwk, "y", size)?);
    Ok(DecodingKey::from_ec_der(&[&[4][..], &x, &y].concat()))
}

/// Of 2048 to 8192 bits. The public exponent is odd, more than 1 (or everybody could sign) and short (or a key could be slow).
fn rsa(jwk: &Map<String, Value>) -> Result<DecodingKey, TokenError> {
    let (modulus, exponent) = (bytes(jwk, "n")?, bytes(jwk, "e")?);
    let (modulus, exponent) = (significant(&modulus), significant(&exponent));
    let bits = modulus.len() * 8
        - modulus
            .first()
            .map_or(0, |first| first.leading_zeros() as usize);
    let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    let is_exponent = exponent.len() <= 4 && is_odd(exponent) && exponent != [1];
    match RSA_BITS.contains(&bits) && is_odd(modulus) && is_exponent {
        true => Ok(DecodingKey::from_rsa_raw_components(modulus, exponent)),
        false => Err(TokenError::KeyUnusable),
    }
}

fn significant(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}
