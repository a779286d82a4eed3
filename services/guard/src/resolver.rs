//! Names to addresses that may be reached.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::Refused;
use crate::address::is_public;
use crate::hosts::AllowedHosts;

pub struct Resolver {
    allowed: Arc<AllowedHosts>,
}

impl Resolver {
    pub fn new(allowed: Arc<AllowedHosts>) -> Self {
        Self { allowed }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = Arc::clone(&self.allowed);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let reachable: Vec<SocketAddr> = if allowed.has(name.as_str()) {
                found.collect()
            } else {
                found.filter(|address| is_public(address.ip())).collect()
            };
            if reachable.is_empty() {
                return Err(
                    io::Error::new(io::ErrorKind::PermissionDenied, Refused::Address).into(),
                );
            }
            Ok(Box::new(reachable.into_iter()) as Addrs)
        })
    }
}
