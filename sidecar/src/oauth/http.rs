//! Requests to providers, by the guarded client: no private addresses, no redirects, bounded in time and size.

use std::time::Duration;

use kijko_core::SetupError;
use kijko_guard::{AllowedHosts, Guard};
use reqwest::{Client, Method, RequestBuilder, Url, header};
use serde::de::DeserializeOwned;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer; key sets are the largest.
const MAX_BYTES: usize = 256 << 10;

/// Why a provider gave no answer that can be used. For the log; names no secret.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Fault {
    /// The address is not one that may be fetched.
    #[error("{0} may not be fetched: {1}")]
    Refused(&'static str, String),
    /// No connection: the request was not sent.
    #[error("{0} cannot be reached: {1}")]
    Unreachable(&'static str, String),
    /// The request may have been sent, and no answer came.
    #[error("{0} does not answer: {1}")]
    Unanswered(&'static str, String),
    /// An answer of another kind.
    #[error("{0} answered {1}")]
    Status(&'static str, u16),
    /// OAuth's error of an answer.
    #[error("{0} refused: {1}")]
    Error(&'static str, String),
    /// Not the JSON that it should be.
    #[error("{0} answered something unexpected")]
    Unexpected(&'static str),
    /// Too much.
    #[error("{0} answered more than {MAX_BYTES} bytes")]
    TooLarge(&'static str),
}

impl Fault {
    /// Whether the provider no longer accepts a refresh token: the error has one name in OAuth and another at GitHub.
    pub(crate) fn is_refused_grant(&self) -> bool {
        matches!(self, Self::Error(_, error) if error == "invalid_grant" || error == "bad_refresh_token")
    }

    /// Whether the provider certainly did nothing: it was not reached, or it refused.
    pub(crate) fn is_definite(&self) -> bool {
        match self {
            Self::Refused(..) | Self::Unreachable(..) | Self::Error(..) => true,
            Self::Status(_, status) => (400..500).contains(status),
            Self::Unanswered(..) | Self::Unexpected(_) | Self::TooLarge(_) => false,
        }
    }
}

/// The client.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    guard: Guard,
    client: Client,
    allowed: std::sync::Arc<AllowedHosts>,
}

/// An answer.
pub(crate) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Http {
    pub(crate) fn new(allowed: AllowedHosts) -> Result<Self, SetupError> {
        let guard = Guard::new(allowed.clone());
        let client = guard.client(|builder| {
            builder
                // Other crates switch HTTP/2 on.
                .http1_only()
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(TOTAL_TIMEOUT)
                .user_agent(format!("kijko-sidecar/{}", crate::VERSION))
        })?;
        Ok(Self {
            guard,
            client,
            allowed: allowed.into(),
        })
    }

    /// A request, to be completed and sent. `what` is the endpoint's name for the log.
    pub(crate) fn request(
        &self,
        method: Method,
        url: &str,
        what: &'static str,
    ) -> Result<RequestBuilder, Fault> {
        let url = self
            .guard
            .check(url)
            .map_err(|refused| Fault::Refused(what, refused.to_string()))?;
        if !is_private_enough(&url, &self.allowed) {
            return Err(Fault::Refused(what, "its scheme is not https".to_owned()));
        }
        let request = self.client.request(method, url);
        Ok(request.header(header::ACCEPT, "application/json"))
    }

    /// Sends it and reads the whole answer.
    pub(crate) async fn send(
        &self,
        request: RequestBuilder,
        what: &'static str,
    ) -> Result<Answer, Fault> {
        let no_answer = |error: reqwest::Error| {
            let is_unsent = error.is_connect() || error.is_builder();
            let causes = kijko_core::db::with_causes(&error.without_url());
            match is_unsent {
                true => Fault::Unreachable(what, causes),
                false => Fault::Unanswered(what, causes),
            }
        };
        let mut response = request.send().await.map_err(no_answer)?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(no_answer)? {
            body.extend_from_slice(&part);
            if body.len() > MAX_BYTES {
                return Err(Fault::TooLarge(what));
            }
        }
        Ok(Answer { status, body })
    }

    /// Sends it and reads the JSON of a 200.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        what: &'static str,
    ) -> Result<T, Fault> {
        let answer = self.send(request, what).await?;
        if answer.status != 200 {
            return Err(Fault::Status(what, answer.status));
        }
        serde_json::from_slice(&answer.body).map_err(|_| Fault::Unexpected(what))
    }

    /// A GET whose answer is JSON.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        url: &str,
        what: &'static str,
    ) -> Result<T, Fault> {
        let request = self.request(Method::GET, url, what)?;
        self.json(request, what).await
    }
}

/// Codes and tokens are sent in the clear to hosts of the operator's own list alone.
pub(crate) fn is_private_enough(url: &Url, allowed: &AllowedHosts) -> bool {
    url.scheme() == "https" || url.host_str().is_some_and(|host| allowed.has(host))
}

/// Whether an address is that of a server, or one below it.
pub(crate) fn is_below(address: &str, server: &str) -> bool {
    let rest = address.strip_prefix(server);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_done_is_not_definite() {
        let text = || "x".to_owned();
        for (fault, definite) in [
            (Fault::Refused("x", text()), true),
            (Fault::Unreachable("x", text()), true),
            (Fault::Error("x", text()), true),
            (Fault::Status("x", 404), true),
            (Fault::Status("x", 502), false),
            (Fault::Unanswered("x", text()), false),
            (Fault::Unexpected("x"), false),
            (Fault::TooLarge("x"), false),
        ] {
            assert_eq!(fault.is_definite(), definite, "{fault:?}");
            assert!(!fault.is_refused_grant());
        }
        for error in ["invalid_grant", "bad_refresh_token"] {
            assert!(Fault::Error("x", error.to_owned()).is_refused_grant());
        }
    }

    #[test]
    fn an_issuer_is_a_server_or_below_it() {
        let server = "https://github.com";
        for (address, expected) in [
            ("https://github.com", true),
            ("https://github.com/", true),
            ("https://github.com/login/oauth", true),
            ("https://github.com.evil.example", false),
            ("https://github.com:444/", false),
            ("https://evil.example/https://github.com/", false),
            ("http://github.com/", false),
            ("", false),
        ] {
            assert_eq!(is_below(address, server), expected, "{address}");
        }
    }
}
