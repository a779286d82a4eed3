//! The client for the servers behind. An operator declares them, and still it reaches no private address that the configuration file
//! of the database does not allow: a role that may write a row must not reach the operator's network by it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kijko_core::error::Error;
use kijko_guard::{AllowedHosts, Guard};
use reqwest::{Client, Url};

use crate::service::SERVICE;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The client of the allowed hosts that were in force last.
#[derive(Debug, Default)]
pub(super) struct Upstream {
    known: Mutex<Option<(String, Guard, Client)>>,
}

impl Upstream {
    /// The address, if it may be called, and the client that may call it.
    pub(super) fn reach(&self, allowed: &str, url: &str) -> Result<(Url, Client), Error> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, guard, client) = match known.take() {
            Some(same) if same.0 == allowed => known.insert(same),
            _ => known.insert(make(allowed)?),
        };
        let url = guard.check(url).map_err(|refused| Error::UpstreamFailed {
            cause: refused.to_string(),
        })?;
        Ok((url, client.clone()))
    }
}

fn make(allowed: &str) -> Result<(String, Guard, Client), Error> {
    let hosts: AllowedHosts = allowed.parse().map_err(|error| Error::Internal {
        cause: format!("kijko.http_allowed_hosts: {error}"),
    })?;
    let guard = Guard::new(hosts);
    let client = guard
        .client(|client| {
            client
                // Other crates switch HTTP/2 on.
                .http1_only()
                .connect_timeout(CONNECT_TIMEOUT)
                .user_agent(format!("{}/{}", SERVICE.name, SERVICE.version))
        })
        .map_err(|error| Error::Internal {
            cause: format!("the client of functions: {error}"),
        })?;
    Ok((allowed.to_owned(), guard, client))
}
