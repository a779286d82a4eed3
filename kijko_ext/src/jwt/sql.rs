//! `sign_jwt`, `sign_jwt_with_key`, `verify_jwt`, `jwks` and `pre_config` for SQL.

use std::cell::RefCell;
use std::rc::Rc;

use pgrx::JsonB;
use pgrx::prelude::*;
use serde_json::{Value, json};

use super::access;
use super::keys::Keys;
use crate::key_file::Cache;
use crate::pg::setting;
use crate::{clock, errors, guc};

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
