//! Which addresses belong to a public host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use ipnet::{Ipv4Net, Ipv6Net};

/// IPv4 networks that are not globally reachable, by the registry of special-purpose addresses
/// (<https://www.iana.org/assignments/iana-ipv4-special-registry>), and multicast.
const SPECIAL_V4: [&str; 15] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10", // carriers, and one cloud's metadata
    "127.0.0.0/8",
    "168.63.129.16/32", // Azure's own services on a public address
    "169.254.0.0/16",   // link-local, and most clouds' metadata
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24", // relays of 6to4
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3", // multicast, reserved, broadcast
];

/// The only IPv6 network with public hosts (RFC 4291, section 2.4). All special ones but those below are outside of it, also
/// mapped and translated IPv4 addresses.
const GLOBAL_V6: &str = "2000::/3";

/// Within it (<https://www.iana.org/assignments/iana-ipv6-special-registry>).
const SPECIAL_V6: [&str; 4] = [
    "2001::/23",     // protocols; Teredo, which wraps IPv4 addresses
    "2001:db8::/32", // documentation
    "2002::/16",     // 6to4, which wraps IPv4 addresses
    "3fff::/20",     // documentation
];

struct Networks {
    special_v4: Vec<Ipv4Net>,
    global_v6: Ipv6Net,
    special_v6: Vec<Ipv6Net>,
}

static NETWORKS: LazyLock<Networks> = LazyLock::new(|| Networks {
    special_v4: SPECIAL_V4
        .iter()
        .filter_map(|net| net.parse().ok())
        .collect(),
    global_v6: GLOBAL_V6.parse().unwrap_or_default(),
    special_v6: SPECIAL_V6
        .iter()
        .filter_map(|net| net.parse().ok())
        .collect(),
});

/// False for loopback, private, carriers', link-local, unique-local, multicast, documentation, metadata and wrapped addresses.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !NETWORKS.special_v4.iter().any(|net| net.contains(&address))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    NETWORKS.global_v6.contains(&address)
        && !NETWORKS.special_v6.iter().any(|net| net.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_network_is_one() {
        assert_eq!(NETWORKS.special_v4.len(), SPECIAL_V4.len());
        assert_eq!(NETWORKS.special_v6.len(), SPECIAL_V6.len());
        assert_eq!(NETWORKS.global_v6.prefix_len(), 3);
    }

    #[test]
    fn public_hosts_are_public() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "172.32.0.1",
            "192.0.3.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860::8",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn all_others_are_not() {
        for address in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.18.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "5f00::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }
}
