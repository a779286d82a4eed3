//! API keys in Basic credentials, as clients of other products send them.

use axum::http::{HeaderMap, HeaderValue, header};
use base64::{Engine as _, prelude::BASE64_STANDARD};

/// A name and a secret.
#[derive(Debug, PartialEq)]
pub(crate) struct Credentials {
    pub name: String,
    pub secret: String,
}

/// Why a key cannot be the caller's.
#[derive(Debug, PartialEq)]
pub(crate) enum Fault {
    NotAKey,
    TwoKeys,
}

impl Fault {
    pub(crate) fn message(&self) -> &'static str {
        match self {
            Self::NotAKey => "the Basic credentials hold an API key: kjk_…",
            Self::TwoKeys => "the request has two API keys",
        }
    }
}

/// None: no Basic credentials; an error: some that cannot be read.
pub(crate) fn credentials(headers: &HeaderMap) -> Option<Result<Credentials, Fault>> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let read = || {
        let bytes = BASE64_STANDARD.decode(encoded.trim()).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (name, secret) = text.split_once(':')?;
        Some(Credentials {
            name: name.to_owned(),
            secret: secret.to_owned(),
        })
    };
    Some(read().ok_or(Fault::NotAKey))
}

/// Makes a key that of the request, in place of what the client authorized itself with.
pub(crate) fn assume_key(headers: &mut HeaderMap, key: &str) -> Result<(), Fault> {
    let value = HeaderValue::from_str(key).ok();
    let Some(mut value) = value.filter(|_| key.starts_with("kjk_")) else {
        return Err(Fault::NotAKey);
    };
    value.set_sensitive(true);
    if headers
        .get("x-api-key")
        .is_some_and(|other| other.as_bytes() != value.as_bytes())
    {
        return Err(Fault::TwoKeys);
    }
    headers.remove(header::AUTHORIZATION);
    headers.insert("x-api-key", value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(authorization: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
        headers
    }

    #[test]
    fn credentials_are_read_from_their_header_only() {
        let basic = |text: &str| with(&format!("Basic {}", BASE64_STANDARD.encode(text)));
        let read = credentials(&basic("a:b:c")).unwrap().unwrap();
        assert_eq!((read.name.as_str(), read.secret.as_str()), ("a", "b:c"));
        assert_eq!(credentials(&basic("a")), Some(Err(Fault::NotAKey)));
        assert_eq!(credentials(&with("Basic !")), Some(Err(Fault::NotAKey)));
        assert_eq!(credentials(&with("Bearer x")), None);
        assert_eq!(credentials(&HeaderMap::new()), None);
    }

    #[test]
    fn a_key_replaces_the_credentials_and_no_other_key() {
        let mut headers = with("Basic eDp5");
        assert_eq!(assume_key(&mut headers, "sk-1"), Err(Fault::NotAKey));
        assert_eq!(assume_key(&mut headers, "kjk_\n"), Err(Fault::NotAKey));
        assume_key(&mut headers, "kjk_live_a").unwrap();
        assert!(headers["x-api-key"].is_sensitive() && !headers.contains_key("authorization"));
        assert_eq!(assume_key(&mut headers, "kjk_live_b"), Err(Fault::TwoKeys));
        assert_eq!(assume_key(&mut headers, "kjk_live_a"), Ok(()));
    }
}
