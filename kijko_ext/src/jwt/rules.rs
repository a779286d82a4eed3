//! What the claims of a verified token have to say. Free of Postgres.

use serde_json::{Map, Value};

use super::token_error::TokenError;

#[derive(Debug)]
pub struct Rules<'a> {
    /// Unix time.
    pub now: f64,
    /// How far the clocks may be apart, in seconds: for `exp` and `nbf`.
    pub leeway: f64,
    /// The same for `iat`.
    pub issued_leeway: f64,
    /// Who must have issued the token, and for whom. None for our own, whose callers check the purpose.
    pub parties: Option<Parties<'a>>,
}

#[derive(Debug)]
pub struct Parties<'a> {
    pub issuer: &'a str,
    /// One of them is enough.
    pub audiences: &'a [String],
}

impl Rules<'_> {
    pub fn check(&self, claims: &Map<String, Value>) -> Result<(), TokenError> {
        let expires = time(claims, "exp")?.ok_or(TokenError::ExpiryMissing)?;
        let not_before = time(claims, "nbf")?;
        let issued = time(claims, "iat")?;
        if expires <= self.now - self.leeway {
            return Err(TokenError::Expired);
        }
        if not_before.is_some_and(|from| from > self.now + self.leeway) {
            return Err(TokenError::NotYetValid);
        }
        if issued.is_some_and(|at| at > self.now + self.issued_leeway) {
            return Err(TokenError::IssuedInFuture);
        }
        match &self.parties {
            Some(parties) => parties.check(claims),
            None => Ok(()),
        }
    }
}

impl Parties<'_> {
    fn check(&self, claims: &Map<String, Value>) -> Result<(), TokenError> {
        match claims.get("iss") {
            Some(Value::String(issuer)) if !issuer.is_empty() && issuer == self.issuer => {}
            None | Some(Value::String(_)) => return Err(TokenError::IssuerMismatch),
            Some(_) => return Err(TokenError::ClaimsMalformed),
        }
        let is_wanted = |audience: &str| self.audiences.iter().any(|one| one == audience);
        let found = match claims.get("aud") {
            None => false,
            Some(Value::String(audience)) => is_wanted(audience),
            Some(Value::Array(all)) => {
                let all: Option<Vec<&str>> = all.iter().map(Value::as_str).collect();
                let all = all.ok_or(TokenError::ClaimsMalformed)?;
                all.into_iter().any(is_wanted)
            }
            Some(_) => return Err(TokenError::ClaimsMalformed),
        };
        match found {
            true => Ok(()),
            false => Err(TokenError::AudienceMismatch),
        }
    }
}

/// A NumericDate. A time in a string is refused: other verifiers might ignore it.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<f64>, TokenError> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => match number.as_f64() {
            Some(time) if time.is_finite() => Ok(Some(time)),
            _ => Err(TokenError::ClaimsMalformed),
        },
        Some(_) => Err(TokenError::ClaimsMalformed),
    }
}

#[cfg(test)]
mod unit {
    use serde_json::json;

    use super::*;

    const NOW: f64 = 1_800_000_000.0;

    fn check(claims: Value) -> Option<TokenError> {
        let audiences = ["ours".to_owned(), "also ours".to_owned()];
        let rules = Rules {
            now: NOW,
            leeway: 30.0,
            issued_leeway: 30.0,
            parties: Some(Parties {
                issuer: "https://issuer",
                audiences: &audiences,
            }),
        };
        let mut all = json!({"iss": "https://issuer", "aud": "ours", "exp": NOW + 60.0});
        for (name, value) in claims.as_object().unwrap() {
            match value {
                Value::String(text) if text == "(absent)" => {
                    all.as_object_mut().unwrap().remove(name)
                }
                value => all
                    .as_object_mut()
                    .unwrap()
                    .insert(name.clone(), value.clone()),
            };
        }
        rules.check(all.as_object().unwrap()).err()
    }

    #[test]
    fn times_count_to_the_second_of_the_leeway() {
        for good in [
            json!({}),
            json!({"exp": NOW - 29.0}),
            json!({"exp": NOW + 0.5}),
            json!({"nbf": NOW + 30.0}),
            json!({"iat": NOW + 30.0}),
            json!({"nbf": 0, "iat": -1}),
        ] {
            assert_eq!(check(good.clone()), None, "{good}");
        }
        for (bad, expected) in [
            (json!({"exp": NOW - 30.0}), TokenError::Expired),
            (json!({"exp": 0}), TokenError::Expired),
            (json!({"exp": -1}), TokenError::Expired),
            (json!({"exp": "(absent)"}), TokenError::ExpiryMissing),
            (json!({"exp": null}), TokenError::ClaimsMalformed),
            (json!({"exp": "1900000000"}), TokenError::ClaimsMalformed),
            (json!({"exp": [1_900_000_000]}), TokenError::ClaimsMalformed),
            (json!({"exp": true}), TokenError::ClaimsMalformed),
            (json!({"nbf": NOW + 31.0}), TokenError::NotYetValid),
            (json!({"nbf": "1"}), TokenError::ClaimsMalformed),
            (json!({"nbf": null}), TokenError::ClaimsMalformed),
            (json!({"iat": NOW + 31.0}), TokenError::IssuedInFuture),
            (json!({"iat": "1"}), TokenError::ClaimsMalformed),
        ] {
            assert_eq!(check(bad.clone()), Some(expected), "{bad}");
        }
    }

    #[test]
    fn issuer_and_audience_are_exact() {
        for good in [
            json!({"aud": ["ours"]}),
            json!({"aud": ["else", "also ours"]}),
        ] {
            assert_eq!(check(good.clone()), None, "{good}");
        }
        for (bad, expected) in [
            (
                json!({"iss": "https://issuer/"}),
                TokenError::IssuerMismatch,
            ),
            (json!({"iss": "HTTPS://issuer"}), TokenError::IssuerMismatch),
            (json!({"iss": ""}), TokenError::IssuerMismatch),
            (json!({"iss": "(absent)"}), TokenError::IssuerMismatch),
            (
                json!({"iss": ["https://issuer"]}),
                TokenError::ClaimsMalformed,
            ),
            (json!({"aud": "(absent)"}), TokenError::AudienceMismatch),
            (json!({"aud": ""}), TokenError::AudienceMismatch),
            (json!({"aud": []}), TokenError::AudienceMismatch),
            (json!({"aud": "Ours"}), TokenError::AudienceMismatch),
            (json!({"aud": "ours else"}), TokenError::AudienceMismatch),
            (json!({"aud": ["ours", 1]}), TokenError::ClaimsMalformed),
            (json!({"aud": {"ours": true}}), TokenError::ClaimsMalformed),
            (json!({"aud": null}), TokenError::ClaimsMalformed),
        ] {
            assert_eq!(check(bad.clone()), Some(expected), "{bad}");
        }
    }
}
