//! `sign_jwt`, `sign_jwt_with_key`, `verify_jwt`, `verify_jwt_reason`, `jwks` and `pre_config` for SQL.

use std::cell::RefCell;
use std::rc::Rc;

use pgrx::JsonB;
use pgrx::datum::Interval;
use pgrx::prelude::*;
use serde_json::{Map, Value, json};

use super::keys::Keys;
use super::rules::{Parties, Rules};
use super::token::Token;
use super::token_error::TokenError;
use super::{access, jwk};
use crate::key_file::Cache;
use crate::pg::setting;
use crate::{clock, errors, guc};

/// More would accept tokens long after their end.
const MAX_LEEWAY_MICROS: i64 = 300 * clock::SECOND;

/// Signs an object of claims as it is; only the header names the key.
#[pg_extern(volatile, parallel_unsafe)]
fn sign_jwt(claims: Option<JsonB>) -> String {
    sign(claims, None)
}

/// Signs by one of the other keys of the file. A change of keys asks the verifiers by it whether they know a key that does
/// not sign yet.
#[pg_extern(volatile, parallel_unsafe)]
fn sign_jwt_with_key(claims: Option<JsonB>, key_id: Option<&str>) -> String {
    sign(claims, Some(key_id.unwrap_or_default()))
}

fn sign(claims: Option<JsonB>, key_id: Option<&str>) -> String {
    let Some(JsonB(Value::Object(claims))) = claims else {
        errors::bad_argument("the claims must be an object")
    };
    let keys = keys().unwrap_or_else(|| {
        errors::raise(
            PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR,
            "kijko.signing_key_file is not set",
            None,
            Some("Set it to a PEM file with an RSA private key and reload the configuration."),
        )
    });
    let Some(key) = keys.find(key_id) else {
        errors::bad_argument("no key of kijko.signing_key_file has this id")
    };
    key.sign(&claims)
        .unwrap_or_else(|| error!("the token could not be signed"))
}

/// The claims of a token that one of our keys signed and that is valid now, or null.
#[pg_extern(volatile, parallel_unsafe)]
fn verify_jwt(token: Option<&str>) -> Option<JsonB> {
    Some(JsonB(Value::Object(keys()?.verify(token?)?)))
}

/// The claims of a token that a key of the set signed, that the issuer made for one of the audiences, and that is valid now; or
/// null.
#[pg_extern(name = "verify_jwt", volatile, parallel_safe)]
fn verify_jwt_with_keys(
    token: Option<&str>,
    jwks: Option<JsonB>,
    issuer: Option<&str>,
    audiences: Option<Vec<Option<String>>>,
    leeway: default!(Option<Interval>, "'30 seconds'"),
) -> Option<JsonB> {
    let claims = verify(token, jwks, issuer, audiences, leeway).ok()?;
    Some(JsonB(Value::Object(claims)))
}

/// Why `verify_jwt` is null for these arguments; null when it is not.
#[pg_extern(volatile, parallel_safe)]
fn verify_jwt_reason(
    token: Option<&str>,
    jwks: Option<JsonB>,
    issuer: Option<&str>,
    audiences: Option<Vec<Option<String>>>,
    leeway: default!(Option<Interval>, "'30 seconds'"),
) -> Option<String> {
    let reason = verify(token, jwks, issuer, audiences, leeway).err()?;
    Some(reason.to_string())
}

/// An argument that is null matches nothing.
fn verify(
    token: Option<&str>,
    jwks: Option<JsonB>,
    issuer: Option<&str>,
    audiences: Option<Vec<Option<String>>>,
    leeway: Option<Interval>,
) -> Result<Map<String, Value>, TokenError> {
    let Some(leeway) = leeway.as_ref().and_then(leeway_seconds) else {
        errors::bad_argument("the leeway must be from 0 seconds to 5 minutes")
    };
    let audiences: Vec<String> = audiences
        .unwrap_or_default()
        .into_iter()
        .flatten()
        .collect();
    let rules = Rules {
        now: clock::unix_now() as f64,
        leeway,
        issued_leeway: leeway,
        parties: Some(Parties {
            issuer: issuer.unwrap_or_default(),
            audiences: &audiences,
        }),
    };
    let token = Token::parse(token.ok_or(TokenError::Malformed)?)?;
    let claims = jwk::verify(token, &jwks.ok_or(TokenError::KeysInvalid)?.0)?;
    rules.check(&claims).map(|()| claims)
}

fn leeway_seconds(leeway: &Interval) -> Option<f64> {
    let is_short = leeway.months() == 0 && leeway.days() == 0;
    let is_bounded = (0..=MAX_LEEWAY_MICROS).contains(&leeway.micros());
    (is_short && is_bounded).then(|| leeway.micros() as f64 / clock::SECOND as f64)
}

/// The first claim of an access token that is missing or wrong, or null.
#[pg_extern(volatile, parallel_unsafe)]
fn access_token_fault(claims: Option<JsonB>) -> Option<&'static str> {
    match claims {
        Some(JsonB(Value::Object(claims))) => access::fault(&claims, clock::unix_now()),
        _ => Some("role"),
    }
}

/// The public keys as a JSON Web Key Set.
#[pg_extern(volatile, parallel_unsafe)]
fn jwks() -> JsonB {
    JsonB(keys().map_or_else(|| json!({ "keys": [] }), |keys| keys.jwks()))
}

/// PostgREST's `db-pre-config`: hands it the public keys, for the transaction in which it reads its settings.
#[pg_extern(volatile, parallel_unsafe)]
fn pre_config() {
    let Some(keys) = keys() else { return };
    // JSON escapes control characters, so there is no NUL in it.
    setting::set_local(c"pgrst.jwt_secret", &keys.jwks().to_string());
}

/// The keys of the configured file, read again when the file has changed. None when none is configured.
fn keys() -> Option<Rc<Keys>> {
    thread_local! {
        static CACHE: RefCell<Cache<Keys>> = const { RefCell::new(Cache::new()) };
    }
    let path = guc::signing_key_file()?;
    let keys = CACHE.with_borrow_mut(|cache| cache.get(&path, Keys::read));
    Some(keys.unwrap_or_else(|error| {
        errors::raise(
            PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR,
            "the file of kijko.signing_key_file cannot be used",
            Some(error.to_string()),
            None,
        )
    }))
}
