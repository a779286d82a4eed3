//! `kijko.authenticate_issuer_token()` verifies the token of an outside issuer in the request's header X-Kijko-Token, which only
//! the proxy sets: it moves every bearer there that is not one of ours. PostgREST therefore sees a request without a token, and
//! none of the issuer's keys is ever one that PostgREST knows.
//!
//! What is refused here counts against the client's network, as a refused API key does (authenticate.rs).

use pgrx::prelude::*;
use serde_json::Value;

use super::authenticate::{Problem, not_identified, refusal};
use super::membership_cache;
use crate::issuer::TOKEN_HEADER;
use crate::issuer::caller::{self, IssuerCaller};
use crate::issuer::lookup;
use crate::issuer::mapping::{Claims, Issuer};
use crate::jwt::jwk;
use crate::jwt::rules::{Parties, Rules};
use crate::jwt::token::Token;
use crate::jwt::token_error::TokenError;
use crate::outbox;
use crate::pg::setting;
use crate::pg::sql_function::{Answer, Arguments, Refusal, sql_function};
use crate::{clock, headers, trust};

sql_function!(
    kijko_authenticate_issuer_token,
    pg_finfo_kijko_authenticate_issuer_token,
    authenticate_issuer_token
);

/// How far an issuer's clock may be apart, in seconds.
const LEEWAY: f64 = 30.0;
/// OpenID Connect Core, section 2.
const MAX_SUBJECT_BYTES: usize = 255;

fn authenticate_issuer_token(_: Arguments) -> Answer {
    Ok(pg_sys::Datum::from(authenticate()?))
}

/// False without the header. Otherwise the caller is unauthenticated, until the domain has looked at kijko.issuer_caller().
pub(super) fn authenticate() -> Result<bool, Refusal> {
    if caller::is_set() {
        return Ok(true);
    }
    let token = headers::of_request(TOKEN_HEADER, str::to_owned);
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        return Ok(false);
    };
    if !trust::is_request() {
        return Ok(false);
    }
    let found = identify(&token).map_err(refusal)?;
    headers::remove_of_request(TOKEN_HEADER);
    caller::set(found);
    setting::CLAIMS.set_local("");
    Ok(true)
}

fn identify(text: &str) -> Result<IssuerCaller, Problem> {
    let token = Token::parse(text).map_err(refused)?;
    let url = token.unverified().get("iss").and_then(Value::as_str);
    let url = url.unwrap_or_default().to_owned();
    let named = membership_cache::requested_by_header().ok().flatten();
    let issuers = lookup::by_url(&url);
    let younger = named.and_then(|organization| lookup::younger(&url, &organization, &issuers));
    let fitting: Vec<&Issuer> = issuers
        .iter()
        .chain(&younger)
        .filter(|issuer| issuer.fits(token.unverified()))
        .collect();
    let Some((issuer, is_certain)) = choose(&fitting, named, token.unverified()) else {
        return Err(not_identified(
            "no organization has enrolled the issuer of this token for its audience, or its keys are not known yet",
        ));
    };
    let claims = verify(token, &url, issuer)?;
    // Only who has a token of the issuer learns who enrolled it.
    if named.is_some_and(|organization| organization != issuer.organization) {
        return Err(Problem::new(
            "not_a_member",
            "x-org-id: the issuer of this token does not speak for that organization",
        ));
    }
    if !is_certain {
        return Err(Problem::new(
            "organization_required",
            "several organizations have enrolled the issuer of this token, and its subject is in none of them: name one in the header x-org-id",
        ));
    }
    caller_of(&claims, url, issuer)
}

/// Anybody may enrol an issuer, so an enrolment takes nothing from the others: the organization that the request names counts, else the
/// one in which the subject has a user. If several others remain, none is certain. Claims only choose here; the token is verified later.
fn choose<'a>(
    fitting: &[&'a Issuer],
    named: Option<[u8; 16]>,
    claims: &Claims,
) -> Option<(&'a Issuer, bool)> {
    let subject = claims.get("sub").and_then(Value::as_str);
    let knows = |issuer: &&&Issuer| match named {
        Some(organization) => issuer.organization == organization,
        None => subject.is_some_and(|subject| lookup::user(&issuer.id, subject).is_some()),
    };
    if let [only] = fitting {
        return Some((*only, true));
    }
    match fitting.iter().find(knows) {
        Some(chosen) => Some((*chosen, true)),
        // An organization that is named and enrolled none is refused as such.
        None => Some((*fitting.first()?, named.is_some())),
    }
}

fn verify(token: Token<'_>, url: &str, issuer: &Issuer) -> Result<Claims, Problem> {
    let rules = Rules {
        now: clock::unix_now() as f64,
        leeway: LEEWAY,
        issued_leeway: LEEWAY,
        parties: Some(Parties {
            issuer: url,
            audiences: &issuer.audiences,
        }),
    };
    let claims = jwk::verify(token, &issuer.jwks).map_err(|error| {
        if error == TokenError::KeyUnknown {
            outbox::want_issuer(&issuer.id);
        }
        refused(error)
    })?;
    rules.check(&claims).map_err(refused)?;
    // A notice of logout is signed by the same keys, for the same audience.
    match claims.contains_key("events") {
        true => Err(refused(TokenError::TypeNotAllowed)),
        false => Ok(claims),
    }
}

fn caller_of(claims: &Claims, url: String, issuer: &Issuer) -> Result<IssuerCaller, Problem> {
    let text = |name| claims.get(name).and_then(Value::as_str);
    let subject = text("sub").filter(|sub| !sub.is_empty() && sub.len() <= MAX_SUBJECT_BYTES);
    let subject = subject.ok_or_else(|| refused(TokenError::ClaimsMalformed))?;
    let denied = |details| Problem::new("permission_denied", details);
    if !issuer.admits_address(claims) {
        return Err(denied(
            "the token has no verified address of an allowed domain",
        ));
    }
    let role = issuer.role(claims);
    let role = role.ok_or_else(|| denied("the token gives no role in the organization"))?;
    let names = ["name", "preferred_username", "email"];
    Ok(IssuerCaller {
        issuer: issuer.id,
        organization: issuer.organization,
        user: lookup::user(&issuer.id, subject),
        subject: subject.to_owned(),
        url,
        role,
        name: names.into_iter().find_map(text).map(str::to_owned),
        second_factor: has_second_factor(claims),
        expires: claims
            .get("exp")
            .and_then(Value::as_f64)
            .unwrap_or_default() as i64,
    })
}

/// Whether the issuer says that there was more than one factor (RFC 8176).
fn has_second_factor(claims: &Claims) -> bool {
    let methods = claims.get("amr").and_then(Value::as_array);
    methods.is_some_and(|methods| methods.iter().any(|method| method == "mfa"))
}

fn refused(error: TokenError) -> Problem {
    not_identified(&format!("the token is refused: {error}"))
}
