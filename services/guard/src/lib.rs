//! The guard against server-side request forgery, for everything that fetches a tenant's URL.
//!
//! 1. [`Guard::check`] refuses a URL: other schemes, user names, ports of other protocols, and hosts that are an address of a
//!    network of ours. A name is checked when it is resolved.
//! 2. [`Guard::client`] makes a client that resolves names by [`resolver`], which leaves out addresses that are not public. The
//!    client connects to what was checked, so a name that changes its address between two looks gains nothing.
//! 3. The client follows no redirect, uses no proxy of the environment and unpacks nothing.
//!
//! An operator can allow hosts by name. Nothing of that is a tenant's to set.

mod address;
mod hosts;
mod resolver;

use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Url};

pub use address::is_public;
pub use hosts::{AllowedHosts, InvalidHost};
use resolver::Resolver;

/// Bytes of a URL.
pub const MAX_URL: usize = 2_048;
/// How long a connection waits for its next request.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);
/// Connections that wait for each host.
const IDLE_CONNECTIONS: usize = 16;

/// Why a URL may not be fetched. The texts are for the author of the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not a URL, or too long.
    #[error(
        "the URL is malformed, has a blank or control character, or is longer than {MAX_URL} bytes"
    )]
    Malformed,
    /// Not HTTP.
    #[error("the URL's scheme is not http or https")]
    Scheme,
    /// A password in a URL ends up in logs.
    #[error("the URL has a user name or password")]
    Credentials,
    /// Below 1024 there are other protocols.
    #[error("the URL's port is below 1024 and not 80 or 443")]
    Port,
    /// Private, loopback, link-local, and so on.
    #[error("the URL's address is not a public one")]
    Address,
}

/// What is allowed.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    allowed: Arc<AllowedHosts>,
}

impl Guard {
    /// `allowed` are hosts of the operator's own network, which would be refused otherwise.
    #[must_use]
    pub fn new(allowed: AllowedHosts) -> Self {
        Self {
            allowed: Arc::new(allowed),
        }
    }

    /// Whether a URL may be fetched, as far as the URL itself says. Looks up no name.
    pub fn check(&self, url: &str) -> Result<Url, Refused> {
        // The parser drops line breaks and tabs, and trims what surrounds the URL: others would read another URL than it does.
        let is_blank = |byte: u8| byte <= b' ' || byte == 0x7f;
        if url.len() > MAX_URL || url.bytes().any(is_blank) {
            return Err(Refused::Malformed);
        }
        let url: Url = url.parse().map_err(|_| Refused::Malformed)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refused::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::Credentials);
        }
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(Refused::Malformed);
        };
        match self.allowed.find(host, port) {
            hosts::Found::Allowed => return Ok(url),
            hosts::Found::OtherPort => return Err(Refused::Address),
            hosts::Found::Unknown => {}
        }
        if port < 1024 && port != 80 && port != 443 {
            return Err(Refused::Port);
        }
        match host.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(address) if !is_public(address) => Err(Refused::Address),
            _ if is_local_name(host) => Err(Refused::Address),
            _ => Ok(url),
        }
    }

    /// A client that reaches nothing else. `complete` sets timeouts and the like.
    pub fn client(
        &self,
        complete: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> Result<Client, reqwest::Error> {
        let builder = Client::builder()
            .dns_resolver(Resolver::new(Arc::clone(&self.allowed)))
            .redirect(Policy::none())
            .no_proxy()
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .referer(false)
            .pool_idle_timeout(IDLE_CONNECTION)
            .pool_max_idle_per_host(IDLE_CONNECTIONS);
        complete(builder).build()
    }
}

/// Names that never are a public host (RFC 6761, RFC 6762), said at once instead of after a look-up.
fn is_local_name(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    !host.contains(['.', ':'])
        || [".localhost", ".local", ".internal", ".invalid", ".test"]
            .iter()
            .any(|end| host.ends_with(end))
}

#[cfg(test)]
mod tests;
