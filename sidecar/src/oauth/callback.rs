//! The redirect by which a provider answers.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::{body::Body, response::Response};
use kijko_core::{error::Error, secret::Secret};
use serde_json::Value;

use super::{
    browser,
    http::Fault,
    provider::{Provider, Query},
};

/// How long the provider may take in all, below the limit of a request: the browser then goes back where it came from, with an error.
const PROVIDER_TIMEOUT: Duration = Duration::from_secs(20);

/// What the answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    SignIn,
    Connection,
}

/// Why a callback brings nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    /// OAuth's name.
    pub error: String,
    /// Ours, for what is not the provider's.
    pub error_code: Option<&'static str>,
    pub description: Option<String>,
}

impl Denial {
    fn ours(error_code: &'static str, description: &str) -> Self {
        Self {
            error: "server_error".to_owned(),
            error_code: Some(error_code),
            description: Some(description.to_owned()),
        }
    }
}

/// Of a repeated name the last value counts, as in the rest of login.
pub(crate) fn query_of(raw: Option<String>) -> Query {
    let raw = raw.unwrap_or_default();
    form_urlencoded::parse(raw.as_bytes())
        .map(|(name, value)| (name.into_owned(), Value::from(value.into_owned())))
        .collect()
}

/// The query of a callback, with its state. `None` without one, and if a name is repeated.
pub(crate) fn callback_query(raw: Option<String>) -> Option<(Query, Secret)> {
    let raw = raw.unwrap_or_default();
    let query = query_of(Some(raw.clone()));
    if query.len() != form_urlencoded::parse(raw.as_bytes()).count() {
        return None;
    }
    let state = Secret::new(text(&query, "state")?);
    Some((query, state))
}

/// A value that is not empty.
pub(crate) fn text<'a>(query: &'a Query, name: &str) -> Option<&'a str> {
    query
        .get(name)
        .and_then(Value::as_str)
        .filter(|value| !value.is_empty())
}

/// What the provider says in answer to the code, or the error for the browser. Without a provider it is switched off.
pub(crate) async fn answer(
    provider: Option<&Provider>,
    query: &Query,
    callback: &str,
    browser: &Secret,
    purpose: Purpose,
) -> Result<Value, Denial> {
    let Some(provider) = provider else {
        let message = "The provider is not enabled";
        return Err(Denial::ours("unexpected_failure", message));
    };
    let asked = async {
        if !provider.is_issuer(text(query, "iss")).await? {
            let message = "The answer is of another provider";
            return Ok(Err(Denial::ours("bad_oauth_callback", message)));
        }
        if let Some(error) = text(query, "error") {
            return Ok(Err(Denial {
                error: error.to_owned(),
                error_code: None,
                description: text(query, "error_description").map(str::to_owned),
            }));
        }
        let Some(code) = text(query, "code") else {
            let message = "OAuth callback with missing authorization code";
            return Ok(Err(Denial::ours("bad_oauth_callback", message)));
        };
        match purpose {
            Purpose::SignIn => provider.sign_in(code, callback, browser).await.map(Ok),
            Purpose::Connection => provider.connect(code, callback, browser).await.map(Ok),
        }
    };
    let fault = match tokio::time::timeout(PROVIDER_TIMEOUT, asked).await {
        Ok(Ok(found)) => return found,
        Ok(Err(fault)) => fault,
        Err(_) => Fault::Unanswered("the provider", "it took too long".to_owned()),
    };
    tracing::warn!(provider = provider.config.name, %fault, "an outside provider did not answer a callback");
    let message = "Unable to exchange external code";
    Err(Denial::ours("unexpected_failure", message))
}

/// A redirect that no cache keeps.
pub(crate) fn found(location: &str) -> Result<Response, Error> {
    let location = HeaderValue::from_str(location).map_err(|_| Error::Internal {
        cause: "the address is no header".to_owned(),
    })?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, location);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let policy = HeaderValue::from_static("no-referrer");
    headers.insert(header::REFERRER_POLICY, policy);
    Ok(response)
}

/// A redirect to the provider, which binds the browser that follows it.
pub(crate) fn to_provider(
    url: &str,
    callback: &str,
    state: &Secret,
    browser: &Secret,
) -> Result<Response, Error> {
    let secure = callback.starts_with("https:");
    let cookie = browser::cookie(state, browser, secure);
    Ok(with_cookie(found(url)?, &cookie))
}

/// The answer to a callback, which unbinds the browser.
pub(crate) fn unbound(response: Response, callback: &str, state: &Secret) -> Response {
    let secure = callback.starts_with("https:");
    with_cookie(response, &browser::expired(state, secure))
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_has_one_state_and_no_name_twice() {
        let read = |raw: &str| callback_query(Some(raw.to_owned())).map(|(_, state)| state);
        assert_eq!(read("code=c&state=s"), Some(Secret::new("s")));
        for bad in [
            "",
            "code=c",
            "state=",
            "state=s&state=t",
            "state=s&code=a&code=b",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
