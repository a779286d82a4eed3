//! Hosts of the operator's own network that may be fetched all the same.

use std::str::FromStr;

/// Names and addresses, each with one port or all: `mail.internal`, `localhost:8080`, `[::1]:8080`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedHosts {
    hosts: Vec<(String, Option<u16>)>,
}

/// An entry that is no host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a host, or a host and a port")]
pub struct InvalidHost(String);

pub enum Found {
    Allowed,
    /// The host is on the list with other ports. The resolver sees no port, so the URL is refused.
    OtherPort,
    Unknown,
}

impl AllowedHosts {
    pub fn find(&self, host: &str, port: u16) -> Found {
        let mut ports = self.ports(host).peekable();
        if ports.peek().is_none() {
            return Found::Unknown;
        }
        if ports.any(|allowed| allowed.is_none_or(|allowed| allowed == port)) {
            Found::Allowed
        } else {
            Found::OtherPort
        }
    }

    pub fn has(&self, host: &str) -> bool {
        self.ports(host).next().is_some()
    }

    fn ports(&self, host: &str) -> impl Iterator<Item = Option<u16>> {
        let of_host = move |(name, _): &&(String, Option<u16>)| name.eq_ignore_ascii_case(host);
        self.hosts.iter().filter(of_host).map(|(_, port)| *port)
    }
}

impl FromStr for AllowedHosts {
    type Err = InvalidHost;

    /// A list separated by commas or blanks.
    fn from_str(list: &str) -> Result<Self, InvalidHost> {
        let entries = list
            .split([',', ' ', '\t', '\n'])
            .filter(|entry| !entry.is_empty());
        let hosts = entries.map(|entry| parse(entry).ok_or_else(|| InvalidHost(entry.to_owned())));
        Ok(Self {
            hosts: hosts.collect::<Result<_, _>>()?,
        })
    }
}

/// As a URL would have it, so that what is compared is written alike.
fn parse(entry: &str) -> Option<(String, Option<u16>)> {
    let url: reqwest::Url = format!("kijko://{entry}").parse().ok()?;
    let host = url.host_str()?;
    let bare = url.username().is_empty()
        && url.password().is_none()
        && matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.fragment().is_none();
    let in_use = !host.contains(['*', '%']);
    (bare && in_use).then(|| (host.to_ascii_lowercase(), url.port()))
}
