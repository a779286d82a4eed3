//! The client's address and network: `kijko.client_address()` and `kijko.client_network()`. network.rs has the arithmetic.
//!
//! Each proxy appends the address that it saw to X-Forwarded-For. So the client's address is the rightmost one that is not a
//! trusted proxy (kijko.trusted_proxies). The client may have written anything to its left.

use pgrx::datum::Inet;
use pgrx::prelude::*;

use crate::network::Network;
use crate::{guc, headers};

const HEADER: &str = "x-forwarded-for";

/// Null when the header names none.
#[pg_extern(stable, parallel_safe)]
fn client_address() -> Option<Inet> {
    let address = headers::of_request(HEADER, address_of)??;
    Some(Inet(address.to_string()))
}

/// The network by which unauthenticated requests are counted: an IPv6 customer has at least a /64.
#[pg_extern(stable, parallel_safe)]
fn client_network() -> Option<Inet> {
    let address = headers::of_request(HEADER, address_of)??;
    Some(Inet(Network::of(address).to_string()))
}

/// The network of this request's client.
pub fn network() -> Option<Network> {
    headers::of_request(HEADER, network_of)?
}

/// The client's network, from an X-Forwarded-For.
pub fn network_of(forwarded: &str) -> Option<Network> {
    address_of(forwarded).map(Network::of)
}

fn address_of(forwarded: &str) -> Option<std::net::IpAddr> {
    guc::with_trusted_proxies(|proxies| proxies.client(forwarded))
}
