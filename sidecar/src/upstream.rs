//! Clients for servers that a row of the database names. They reach no private address that the configuration file of the database
//! does not allow: a role that may write a row must not reach the operator's network by it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kijko_core::error::Error;
use kijko_guard::{AllowedHosts, Guard};
use reqwest::{Client, Url};

use crate::service::SERVICE;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The operator's setting changes rarely; rows are allowed it or nothing.
const MAX_KNOWN: usize = 4;

/// The clients of the allowed hosts that were in force last.
#[derive(Debug, Default)]
pub(crate) struct Upstream {
    known: Mutex<HashMap<String, (Guard, Client)>>,
}

impl Upstream {
    /// The address, if it may be called, and the client that may call it.
    pub(crate) fn reach(&self, allowed: &str, url: &str) -> Result<(Url, Client), Error> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains_key(allowed) {
            if known.len() >= MAX_KNOWN {
                known.clear();
            }
            known.insert(allowed.to_owned(), make(allowed)?);
        }
        let (guard, client) = &known[allowed];
        let url = guard.check(url).map_err(|refused| Error::UpstreamFailed {
            cause: refused.to_string(),
        })?;
        Ok((url, client.clone()))
    }
}

fn make(allowed: &str) -> Result<(Guard, Client), Error> {
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
            cause: format!("the client of other servers: {error}"),
        })?;
    Ok((guard, client))
}
