//! A token in its compact form, read strictly and not verified yet. Free of Postgres.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::strict_json;
use super::token_error::TokenError;

/// Tokens travel in a header, and servers bound headers to about as much.
pub const MAX_BYTES: usize = 16_384;
const MAX_KEY_ID_BYTES: usize = 512;

/// Members of a header that bring a key along, or change what the signature covers. A verifier that ignored them would read
/// a token otherwise than its issuer meant it.
const REFUSED_HEADERS: [&str; 7] = ["crit", "b64", "zip", "jwk", "jku", "x5c", "x5u"];
/// Types of access and identity tokens. Others, for example a notice of logout, are signed by the same keys.
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

#[derive(Debug)]
pub struct Token<'a> {
    pub algorithm: Algorithm,
    pub key_id: Option<String>,
    /// Nobody may believe them before the signature is verified.
    pub(super) claims: Map<String, Value>,
    /// What is signed.
    pub(super) message: &'a str,
    /// In base64url.
    pub(super) signature: &'a str,
}

impl<'a> Token<'a> {
    /// What the token says of itself, before anything is verified: only to find the keys by.
    pub fn unverified(&self) -> &Map<String, Value> {
        &self.claims
    }

    pub fn parse(text: &'a str) -> Result<Self, TokenError> {
        if text.len() > MAX_BYTES {
            return Err(TokenError::TooLarge);
        }
        let (message, signature) = text.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::Malformed)?;
        let header = object(header)?;
        let claims = object(claims)?;
        bytes(signature)?;
        check(&header)?;
        Ok(Self {
            algorithm: algorithm(&header)?,
            key_id: key_id(&header)?,
            claims,
            message,
            signature,
        })
    }
}

/// Canonical only: without padding, line breaks or stray bits, so that a token has one spelling.
fn bytes(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenError::Malformed)
}

fn object(part: &str) -> Result<Map<String, Value>, TokenError> {
    strict_json::object(&bytes(part)?).ok_or(TokenError::Malformed)
}

fn check(header: &Map<String, Value>) -> Result<(), TokenError> {
    if REFUSED_HEADERS
        .iter()
        .any(|name| header.contains_key(*name))
    {
        return Err(TokenError::HeaderNotAllowed);
    }
    match header.get("typ") {
        None => Ok(()),
        Some(Value::String(name)) => {
            let name = name.to_ascii_lowercase();
            let short = name.strip_prefix("application/").unwrap_or(&name);
            match TYPES.contains(&short) {
                true => Ok(()),
                false => Err(TokenError::TypeNotAllowed),
            }
        }
        Some(_) => Err(TokenError::Malformed),
    }
}

fn algorithm(header: &Map<String, Value>) -> Result<Algorithm, TokenError> {
    let name = header.get("alg").and_then(Value::as_str);
    let name = name.ok_or(TokenError::Malformed)?;
    Algorithm::from_str(name).map_err(|_| TokenError::AlgorithmNotAllowed)
}

fn key_id(header: &Map<String, Value>) -> Result<Option<String>, TokenError> {
    match header.get("kid") {
        None => Ok(None),
        Some(Value::String(id)) if id.len() <= MAX_KEY_ID_BYTES => Ok(Some(id.clone())),
        Some(_) => Err(TokenError::Malformed),
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    fn token(header: &str, claims: &str) -> String {
        let encode = |text| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.AAAA", encode(header), encode(claims))
    }

    fn error(text: &str) -> TokenError {
        Token::parse(text).unwrap_err()
    }

    #[test]
    fn a_token_is_read_as_it_stands() {
        let text = token(r#"{"alg":"RS256","kid":"k","typ":"JWT","x5t":"t"}"#, "{}");
        let token = Token::parse(&text).unwrap();
        assert_eq!(token.algorithm, Algorithm::RS256);
        assert_eq!(token.key_id.as_deref(), Some("k"));
        assert_eq!(format!("{}.{}", token.message, token.signature), text);
    }

    #[test]
    fn types_are_those_of_access_and_identity_tokens() {
        for name in ["JWT", "jwt", "at+jwt", "application/at+jwt", "AT+JWT"] {
            let text = token(&format!(r#"{{"alg":"RS256","typ":"{name}"}}"#), "{}");
            assert!(Token::parse(&text).is_ok(), "{name}");
        }
        for name in ["logout+jwt", "secevent+jwt", "dpop+jwt", "", "JOSE"] {
            let text = token(&format!(r#"{{"alg":"RS256","typ":"{name}"}}"#), "{}");
            assert_eq!(error(&text), TokenError::TypeNotAllowed, "{name}");
        }
        let text = token(r#"{"alg":"RS256","typ":1}"#, "{}");
        assert_eq!(error(&text), TokenError::Malformed);
    }

    #[test]
    fn headers_that_change_the_meaning_are_refused() {
        for name in REFUSED_HEADERS {
            for value in ["null", "[]", r#""x""#] {
                let text = token(&format!(r#"{{"alg":"RS256","{name}":{value}}}"#), "{}");
                assert_eq!(error(&text), TokenError::HeaderNotAllowed, "{name} {value}");
            }
        }
        for name in [
            "none", "None", "NONE", "", "rs256", "ES512", "ES256K", "RS1",
        ] {
            let text = token(&format!(r#"{{"alg":"{name}"}}"#), "{}");
            assert_eq!(error(&text), TokenError::AlgorithmNotAllowed, "{name}");
        }
    }

    #[test]
    fn anything_else_is_malformed() {
        for text in ["", ".", "..", "...", "a.b.c", "a.b.c.d"] {
            assert_eq!(error(text), TokenError::Malformed, "{text}");
        }
        let good = token(r#"{"alg":"RS256"}"#, "{}");
        for text in [
            format!("{good}="),
            format!("{good}.x"),
            format!(" {good}"),
            format!("{good}\n"),
            good.replace(".AAAA", ".A"), // a length that no bytes have, or stray bits
            good.replace(".AAAA", ".AB"),
            good.replace(".AAAA", ".A+A/"),
            token(r#"{"alg":"RS256","alg":"none"}"#, "{}"),
            token(r#"{"alg":["RS256"]}"#, "{}"),
            token(r#"{"kid":"k"}"#, "{}"),
            token(r#"{"alg":"RS256","kid":1}"#, "{}"),
            token(r#"{"alg":"RS256","kid":null}"#, "{}"),
            token(r#"{"alg":"RS256"}"#, r#"{"a":1,"a":1}"#),
            token(r#"{"alg":"RS256"}"#, "[]"),
            token("[]", "{}"),
            token(
                &format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(513)),
                "{}",
            ),
        ] {
            assert_eq!(error(&text), TokenError::Malformed, "{text}");
        }
        let large = "a".repeat(MAX_BYTES + 1);
        assert_eq!(error(&large), TokenError::TooLarge);
    }
}
