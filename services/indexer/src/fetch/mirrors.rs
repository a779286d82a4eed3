//! Hosts that are asked instead of others: an operator's mirror of a provider, or a gateway through which all traffic must go.

use std::str::FromStr;

use kijko_guard::AllowedHosts;
use reqwest::Url;

/// Pairs of a host and the URL that stands for it. Nothing of it is a tenant's to set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mirrors(Vec<(String, Url)>);

/// An entry that is no pair of a host and a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a host, = and an http or https URL without user name, query and fragment")]
pub struct InvalidMirror;

impl Mirrors {
    /// The hosts of the mirrors.
    pub fn hosts(&self) -> AllowedHosts {
        let hosts = self.0.iter().filter_map(|(_, url)| url.host_str());
        // They are hosts of URLs, which are what the list is of.
        hosts
            .collect::<Vec<_>>()
            .join(",")
            .parse()
            .unwrap_or_default()
    }

    /// The mirror's URL of a repository, if its host has one.
    pub fn of(&self, url: &Url) -> Option<Url> {
        let host = url.host_str()?;
        let (_, base) = self.0.iter().find(|(mirrored, _)| mirrored == host)?;
        let mut mirror = base.clone();
        mirror.set_path(&format!(
            "{}{}",
            base.path().trim_end_matches('/'),
            url.path()
        ));
        Some(mirror)
    }
}

impl FromStr for Mirrors {
    type Err = InvalidMirror;

    fn from_str(list: &str) -> Result<Self, InvalidMirror> {
        let entries = list
            .split([',', ' ', '\t', '\n'])
            .filter(|entry| !entry.is_empty());
        let pairs = entries.map(|entry| {
            let (host, url) = entry.split_once('=').ok_or(InvalidMirror)?;
            let url: Url = url.parse().map_err(|_| InvalidMirror)?;
            let is_plain = matches!(url.scheme(), "http" | "https")
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none();
            match is_plain && !host.is_empty() && !host.contains(['/', ':']) {
                true => Ok((host.to_ascii_lowercase(), url)),
                false => Err(InvalidMirror),
            }
        });
        Ok(Self(pairs.collect::<Result<_, _>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_kept_below_the_mirror() {
        let mirrors: Mirrors =
            "github.com=http://localhost:8080/hub/, gitlab.com=https://git.internal"
                .parse()
                .unwrap();
        let of = |url: &str| mirrors.of(&url.parse().unwrap()).map(String::from);
        assert_eq!(
            of("https://github.com/a/b.git").as_deref(),
            Some("http://localhost:8080/hub/a/b.git")
        );
        assert_eq!(
            of("https://gitlab.com/a").as_deref(),
            Some("https://git.internal/a")
        );
        assert_eq!(of("https://github.com.evil.example/a"), None);
    }
}
