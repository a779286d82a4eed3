//! Whether the token that PostgREST has verified is an access token: `kijko.token_fault()`.

use pgrx::prelude::*;
use serde_json::{Map, Value};

use crate::jwt::access;
use crate::{claims, clock, headers};

/// The role that PostgREST gives to a request without a token, and to a token without a role.
const ANON_ROLE: &str = "anon";

/// The first claim of the token that is missing or wrong; null for an access token, and for a request without a token.
#[pg_extern(stable, parallel_safe)]
fn token_fault() -> Option<&'static str> {
    fault()
}

pub fn fault() -> Option<&'static str> {
    claims::with(|claims| {
        let role = claims.get("role").and_then(Value::as_str);
        // PostgREST adds this role to a token that has none, so the token itself has to be checked.
        if role.is_none_or(|role| role == ANON_ROLE) {
            match own_claims() {
                None if claims.len() <= 1 => return None, // no token: nothing but the role
                Some(own) if !own.contains_key("role") => return Some("role"),
                _ => {}
            }
        }
        access::fault(claims, clock::unix_now())
    })
}

/// The claims in the Authorization header, whose signature PostgREST has verified.
fn own_claims() -> Option<Map<String, Value>> {
    headers::of_request("authorization", |value| {
        let (scheme, token) = value.split_once(' ')?;
        let bearer = scheme.eq_ignore_ascii_case("bearer");
        bearer.then(|| jsonwebtoken::dangerous::insecure_decode_claims(token.trim()).ok())?
    })?
}
