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
pub(super) enum Fault {
    /// The address is not one that may be fetched.
    #[error("{0} may not be fetched: {1}")]
    Refused(&'static str, String),
    /// No answer.
    #[error("{0} does not answer: {1}")]
    Unreachable(&'static str, String),
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

/// The client.
#[derive(Debug, Clone)]
pub(super) struct Http {
    guard: Guard,
    client: Client,
    allowed: std::sync::Arc<AllowedHosts>,
}

/// An answer.
pub(super) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Http {
    pub(super) fn new(allowed: AllowedHosts) -> Result<Self, SetupError> {
        let guard = Guard::new(allowed.clone());
        let client = guard.client(|builder| {
            builder
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
    pub(super) fn request(
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
    pub(super) async fn send(
        &self,
        request: RequestBuilder,
        what: &'static str,
    ) -> Result<Answer, Fault> {
        let unreachable = |error: reqwest::Error| {
            Fault::Unreachable(what, kijko_core::db::with_causes(&error.without_url()))
        };
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(unreachable)? {
            body.extend_from_slice(&part);
            if body.len() > MAX_BYTES {
                return Err(Fault::TooLarge(what));
            }
        }
        Ok(Answer { status, body })
    }

    /// Sends it and reads the JSON of a 200.
    pub(super) async fn json<T: DeserializeOwned>(
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
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        url: &str,
        what: &'static str,
    ) -> Result<T, Fault> {
        let request = self.request(Method::GET, url, what)?;
        self.json(request, what).await
    }
}

/// Codes and tokens are sent in the clear to hosts of the operator's own list alone.
pub(super) fn is_private_enough(url: &Url, allowed: &AllowedHosts) -> bool {
    url.scheme() == "https" || url.host_str().is_some_and(|host| allowed.has(host))
}

/// Whether an address is that of a server, or one below it.
pub(super) fn is_below(address: &str, server: &str) -> bool {
    let rest = address.strip_prefix(server);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

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
