//! What binds a flow to one browser: a random state, and a random secret in a cookie that no script can read.

use aws_lc_rs::{digest, rand};
use axum::http::{HeaderMap, header};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use kijko_core::secret::Secret;

/// As long as the database keeps a flow.
const MAX_AGE_SECONDS: u32 = 600;

/// 256 random bits as text.
pub(crate) fn random() -> Secret {
    let mut bytes = [0; 32];
    // The system's generator does not fail on the systems that we run on.
    rand::fill(&mut bytes).expect("random bytes");
    Secret::new(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

fn hash(text: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, text.as_bytes()))
}

/// The verifier of our own PKCE with the provider.
pub(crate) fn verifier(browser: &Secret) -> Secret {
    Secret::new(hash(&format!("kijko oauth verifier {}", browser.expose())))
}

/// The challenge that goes to the provider first (S256).
pub(crate) fn challenge(browser: &Secret) -> String {
    hash(verifier(browser).expose())
}

/// The nonce of the identity token.
pub(crate) fn nonce(browser: &Secret) -> String {
    hash(&format!("kijko oauth nonce {}", browser.expose()))
}

/// One cookie for each state, so that two tabs do not disturb each other. With TLS its prefix keeps other hosts of the domain
/// from setting it.
fn name(state: &Secret, secure: bool) -> String {
    let prefix = if secure { "__Host-" } else { "" };
    format!("{prefix}kijko-oauth-{}", &hash(state.expose())[..16])
}

/// Set-Cookie with the browser's secret. Lax, because the provider's redirect comes from another site.
pub(crate) fn cookie(state: &Secret, browser: &Secret, secure: bool) -> String {
    attributes(
        &name(state, secure),
        browser.expose(),
        MAX_AGE_SECONDS,
        secure,
    )
}

/// Set-Cookie that removes it.
pub(crate) fn expired(state: &Secret, secure: bool) -> String {
    attributes(&name(state, secure), "", 0, secure)
}

fn attributes(name: &str, value: &str, max_age: u32, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax{secure}")
}

/// The browser's secret for a state, from the request's cookies: with the prefix if it has both, and empty without any.
pub(crate) fn claimed(headers: &HeaderMap, state: &Secret) -> Secret {
    let found = of_request(headers, state, true).or_else(|| of_request(headers, state, false));
    found.unwrap_or_else(|| Secret::new(""))
}

/// Whether a claimed secret counts at this callback. Another host of the domain can set the cookie without the prefix, so with TLS
/// that one does not.
pub(crate) fn counts(
    headers: &HeaderMap,
    state: &Secret,
    claimed: &Secret,
    callback: &str,
) -> bool {
    let secure = callback.starts_with("https:");
    of_request(headers, state, secure).as_ref() == Some(claimed)
}

fn of_request(headers: &HeaderMap, state: &Secret, secure: bool) -> Option<Secret> {
    let wanted = name(state, secure);
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == wanted)
        .map(|(_, value)| Secret::new(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_by_its_state_alone() {
        let (state, browser) = (random(), random());
        for secure in [true, false] {
            let set = cookie(&state, &browser, secure);
            assert!(set.contains("; HttpOnly; SameSite=Lax"));
            assert_eq!(set.starts_with("__Host-"), secure);
            assert_eq!(set.ends_with("; Secure"), secure);
            let mut headers = HeaderMap::new();
            let pair = set.split(';').next().unwrap();
            headers.insert(header::COOKIE, format!("a=b; {pair}; c").parse().unwrap());
            assert_eq!(of_request(&headers, &state, secure), Some(browser.clone()));
            assert_eq!(of_request(&headers, &state, !secure), None);
            assert_eq!(of_request(&headers, &random(), secure), None);
            let claims = claimed(&headers, &state);
            assert_eq!(claims, browser);
            for callback in ["https://api.example/callback", "http://127.0.0.1/callback"] {
                let matches = callback.starts_with("https:") == secure;
                assert_eq!(counts(&headers, &state, &claims, callback), matches);
            }
        }
    }

    #[test]
    fn what_the_provider_gets_differs_and_does_not_tell_the_secret() {
        let browser = random();
        let all = [
            browser.expose().to_owned(),
            verifier(&browser).expose().to_owned(),
            challenge(&browser),
            nonce(&browser),
        ];
        assert!(all.iter().all(|value| value.len() == 43));
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_ne!(random(), random());
    }
}
