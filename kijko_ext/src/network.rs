//! Addresses, networks and the list of trusted proxies. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The unit by which clients are counted: an IPv4 address, or an IPv6 network of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    V4(Ipv4Addr),
    V6([u8; 8]),
}

impl Network {
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let mut prefix = [0; 8];
                prefix.copy_from_slice(&address.octets()[..8]);
                Self::V6(prefix)
            }
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(f),
            Self::V6(prefix) => {
                let mut octets = [0; 16];
                octets[..8].copy_from_slice(prefix);
                write!(f, "{}/64", Ipv6Addr::from(octets))
            }
        }
    }
}

/// A network prefix. IPv4 is stored as IPv4-mapped IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cidr {
    address: u128,
    bits: u8,
}

impl Cidr {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width: u8 = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => width,
            Some(bits) if bits.bytes().all(|digit| digit.is_ascii_digit()) => bits.parse().ok()?,
            Some(_) => return None,
        };
        (bits <= width).then(|| Self {
            address: mapped(address),
            bits: bits + (128 - width),
        })
    }

    fn contains(&self, address: IpAddr) -> bool {
        let differing = self.address ^ mapped(address);
        differing.leading_zeros() >= self.bits.into()
    }
}

fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The proxies whose X-Forwarded-For is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyList(Vec<Cidr>);

impl ProxyList {
    /// Networks separated by blanks or commas. Err is the first invalid entry.
    pub fn parse(text: &str) -> Result<Self, &str> {
        text.split([' ', ',', '\t', '\n', '\r'])
            .filter(|item| !item.is_empty())
            .map(|item| Cidr::parse(item).ok_or(item))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The client's address in an X-Forwarded-For: the rightmost that is not a trusted proxy, or the leftmost when all are. None
    /// when that entry is not an address, because entries to its left cannot be trusted.
    pub fn client(&self, forwarded: &str) -> Option<IpAddr> {
        let mut client = None;
        for entry in forwarded.rsplit(',') {
            let address = parse_entry(entry.trim())?;
            client = Some(address);
            if !self.0.iter().any(|proxy| proxy.contains(address)) {
                break;
            }
        }
        client
    }
}

/// An address as proxies write it: some add a port, or brackets.
fn parse_entry(entry: &str) -> Option<IpAddr> {
    let bare = match entry.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None if entry.matches(':').count() == 1 => entry.split_once(':')?.0,
        None => entry,
    };
    bare.parse::<IpAddr>()
        .ok()
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod unit {
    use super::*;

    fn client(proxies: &str, forwarded: &str) -> Option<String> {
        let proxies = ProxyList::parse(proxies).unwrap();
        proxies.client(forwarded).map(|address| address.to_string())
    }

    #[test]
    fn the_rightmost_address_that_is_no_trusted_proxy_counts() {
        for (proxies, forwarded, expected) in [
            ("", "10.0.0.1", Some("10.0.0.1")),
            ("", "6.6.6.6, 10.0.0.1", Some("10.0.0.1")),
            ("10.0.0.0/8", "6.6.6.6, 10.0.0.1", Some("6.6.6.6")),
            (
                "10.0.0.0/8",
                "7.7.7.7,6.6.6.6,10.9.9.9 , 10.0.0.1",
                Some("6.6.6.6"),
            ),
            ("10.0.0.1", "6.6.6.6, 10.0.0.2", Some("10.0.0.2")),
            // All are ours: a probe of the balancer itself.
            ("10.0.0.0/8", "10.0.0.2, 10.0.0.1", Some("10.0.0.2")),
            (
                "10.0.0.0/8 fd00::/8",
                "2001:db8::1, fd00::1, 10.0.0.1",
                Some("2001:db8::1"),
            ),
            ("::ffff:10.0.0.0/104", "6.6.6.6, 10.0.0.1", Some("6.6.6.6")),
            ("10.0.0.0/8", "6.6.6.6, ::ffff:10.0.0.1", Some("6.6.6.6")),
            // As some proxies write it.
            ("", "[2001:db8::1]:4711", Some("2001:db8::1")),
            ("", "192.0.2.1:4711", Some("192.0.2.1")),
            ("", "::ffff:192.0.2.1", Some("192.0.2.1")),
            // What is no address ends the search: it is never passed over.
            ("", "6.6.6.6, unknown", None),
            ("10.0.0.0/8", "6.6.6.6, unknown, 10.0.0.1", None),
            ("", "6.6.6.6,", None),
            ("", "", None),
            ("", "10.0.0", None),
            ("", "[::1", None),
        ] {
            assert_eq!(
                client(proxies, forwarded).as_deref(),
                expected,
                "{forwarded:?} behind {proxies:?}"
            );
        }
    }

    #[test]
    fn a_customer_is_an_ipv4_address_or_an_ipv6_network() {
        let network = |address: &str| Network::of(address.parse().unwrap());
        assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:1:f::2"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!(network("2001:db8:0:1::1").to_string(), "2001:db8:0:1::/64");
        assert_eq!(network("192.0.2.1").to_string(), "192.0.2.1");
    }

    #[test]
    fn a_list_of_networks_is_read_or_its_fault_is_named() {
        assert_eq!(ProxyList::parse(" \n"), Ok(ProxyList::default()));
        assert_eq!(
            ProxyList::parse("10.0.0.0/8, ::1").map(|list| list.0.len()),
            Ok(2)
        );
        for bad in [
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0/8",
            "localhost",
            "private_ranges",
        ] {
            assert_eq!(ProxyList::parse(&format!("::1 {bad}")), Err(bad));
        }
        let all = ProxyList::parse("0.0.0.0/0 ::/0").unwrap();
        assert_eq!(
            all.client("6.6.6.6, 7.7.7.7").unwrap().to_string(),
            "6.6.6.6"
        );
    }
}
