//! Whose request it is: the subject of its access token. The token is not verified here, so this is a label and no identity.

use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::{HeaderMap, header::AUTHORIZATION};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use uuid::Uuid;

/// Only reports need it.
static IS_ON: AtomicBool = AtomicBool::new(false);

/// A longer token names nobody.
const MAX_TOKEN: usize = 16 << 10;

#[derive(Deserialize)]
struct Claims {
    sub: Uuid,
}

pub(super) fn turn_on() {
    IS_ON.store(true, Ordering::Relaxed);
}

/// None while nothing is reported, for keys, and for what is no access token.
pub(crate) fn of(headers: &HeaderMap) -> Option<Uuid> {
    IS_ON.load(Ordering::Relaxed).then(|| subject(headers))?
}

fn subject(headers: &HeaderMap) -> Option<Uuid> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.len() > MAX_TOKEN {
        return None;
    }
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Claims>(&claims)
        .ok()
        .map(|claims| claims.sub)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Option<Uuid> {
        subject(&HeaderMap::from_iter([(
            AUTHORIZATION,
            value.parse().unwrap(),
        )]))
    }

    #[test]
    fn an_access_token_names_its_subject_and_nothing_else_does() {
        let id = Uuid::from_u128(7);
        let token = |claims: &str| format!("a.{}.c", URL_SAFE_NO_PAD.encode(claims));
        let good = token(&format!(r#"{{"sub":"{id}","exp":1}}"#));
        assert_eq!(of(&format!("Bearer {good}")), Some(id));
        for bad in [
            "Bearer".to_owned(),
            format!("Basic {good}"),
            "Bearer kjk_live_0123".to_owned(),
            format!("Bearer {}", token(r#"{"sub":"ada@example.com"}"#)),
            format!("Bearer {}", token("{}")),
            format!("Bearer {good}{}", "x".repeat(MAX_TOKEN)),
        ] {
            assert_eq!(of(&bad), None, "{bad:.60}");
        }
        assert_eq!(subject(&HeaderMap::new()), None);
    }
}
