//! Rate limit policies: rows of kijko.rate_limit_policies, and which of them apply to a request. Pure.

use crate::network::Network;
use crate::rate_limit::gcra;

/// The tier of a row that applies to every tier without a row of its own.
pub const ANY_TIER: &str = "*";
/// The tiers of requests without an organization: unauthenticated ones, those of a user, and those that another server takes.
pub const ANONYMOUS: &str = "anonymous";
pub const USER: &str = "user";
pub const EXTERNAL: &str = "external";
/// The name of the limit that an API key has of its own.
const API_KEY_REQUESTS: &str = "api_key_requests";

/// What a limit is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Address,
    User,
    Organization,
    ApiKey,
}

impl Scope {
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "address" => Self::Address,
            "user" => Self::User,
            "organization" => Self::Organization,
            "api_key" => Self::ApiKey,
            _ => return None,
        })
    }
}

#[derive(Clone, Debug)]
pub struct RateLimitPolicy {
    pub name: Box<str>,
    pub tier: Box<str>,
    pub scope: Scope,
    /// None is every method.
    pub method: Option<Box<str>>,
    /// A pattern; None is every route.
    pub route: Option<Box<str>>,
    pub limit: gcra::RateLimit,
    pub cost: u32,
    /// In how many seconds the whole burst is paid back.
    pub window: u64,
    /// Counted and logged, never refused.
    pub shadow: bool,
    /// The prefix of the limit's keys. It contains the figures, so a change of tier starts with a full allowance.
    pub key: Vec<u8>,
}

/// What the limits of a request depend on.
pub struct RequestInfo<'a> {
    pub network: Option<Network>,
    pub user: Option<[u8; 16]>,
    pub organization: Option<[u8; 16]>,
    pub api_key: Option<[u8; 16]>,
    /// Whether that key stands in browsers, where anybody can use it.
    pub is_publishable: bool,
    pub method: &'a str,
    pub path: &'a str,
}

impl RateLimitPolicy {
    /// The limit that a key has of its own: requests a minute. None for a rate that no key can have.
    pub fn of_api_key(rate: u32) -> Option<Self> {
        Some(Self {
            name: API_KEY_REQUESTS.into(),
            tier: ANY_TIER.into(),
            scope: Scope::ApiKey,
            method: None,
            route: None,
            limit: gcra::RateLimit::new(rate, 60_000_000_000, rate).ok()?,
            cost: 1,
            window: 60,
            shadow: false,
            key: format!("\0{API_KEY_REQUESTS}\0{rate}\0").into_bytes(),
        })
    }

    /// Whom this request is counted for. None when the policy does not apply to it.
    pub fn counts_for(&self, request: &RequestInfo) -> Option<Identity> {
        let method = self.method.as_deref();
        let route = self.route.as_deref();
        if method.is_some_and(|method| method != request.method)
            || route.is_some_and(|route| !matches(route, request.path))
        {
            return None;
        }
        match self.scope {
            Scope::Address => Some(Identity::of_network(request.network)),
            Scope::User => request.user.map(Identity::of_uuid),
            Scope::Organization => request.organization.map(Identity::of_uuid),
            Scope::ApiKey => request.api_key.map(Identity::of_uuid),
        }
    }
}

/// At most sixteen bytes that say whom something is counted for: an id or a network. Every request has several, so they are
/// not allocated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Identity {
    bytes: [u8; 16],
    length: usize,
}

impl Identity {
    pub const fn of_uuid(bytes: [u8; 16]) -> Self {
        Self { bytes, length: 16 }
    }

    pub fn of_network(network: Option<Network>) -> Self {
        match network {
            Some(Network::V4(address)) => Self::short(&address.octets()),
            Some(Network::V6(prefix)) => Self::short(&prefix),
            None => Self::short(b"unknown"),
        }
    }

    /// Of at most sixteen bytes.
    pub fn short(text: &[u8]) -> Self {
        let mut bytes = [0; 16];
        bytes[..text.len()].copy_from_slice(text);
        let length = text.len();
        Self { bytes, length }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The policies of a tier: for each name the tier's own row, or else the row for any tier.
pub fn of_tier(policies: &[RateLimitPolicy], tier: &str) -> Vec<RateLimitPolicy> {
    let own = |policy: &&RateLimitPolicy| *policy.tier == *tier;
    let inherited = |policy: &&RateLimitPolicy| {
        &*policy.tier == ANY_TIER
            && !policies
                .iter()
                .any(|other| other.name == policy.name && own(&other))
    };
    policies
        .iter()
        .filter(|policy| own(policy) || inherited(policy))
        .cloned()
        .collect()
}

/// The policies of a request: those of its tier, and for the scope user those of the user's own tier. So a member of many
/// organizations has one allowance for all of them.
pub fn of_request(
    policies: &[RateLimitPolicy],
    tier: &str,
    users_tier: &str,
) -> Vec<RateLimitPolicy> {
    let of = |tier, by_user| {
        of_tier(policies, tier)
            .into_iter()
            .filter(move |policy| (policy.scope == Scope::User) == by_user)
    };
    of(tier, false).chain(of(users_tier, true)).collect()
}

/// Whether a path matches a pattern, in which `*` stands for any characters or none.
pub fn matches(pattern: &str, path: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| path.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod unit {
    use super::*;

    fn policy(name: &str, tier: &str, scope: Scope) -> RateLimitPolicy {
        RateLimitPolicy {
            name: name.into(),
            tier: tier.into(),
            scope,
            method: None,
            route: None,
            limit: gcra::RateLimit::new(60, 60_000_000_000, 60).unwrap(),
            cost: 1,
            window: 60,
            shadow: false,
            key: name.as_bytes().to_vec(),
        }
    }

    const UNAUTHENTICATED: RequestInfo = RequestInfo {
        network: None,
        user: None,
        organization: None,
        api_key: None,
        is_publishable: false,
        method: "GET",
        path: "/projects",
    };

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, path, expected) in [
            ("/projects", "/projects", true),
            ("/projects", "/projects/1", false),
            ("/rpc/*", "/rpc/execute_skill", true),
            ("/rpc/*", "/projects", false),
            ("*", "", true),
            ("*_skill", "/rpc/execute_skill", true),
            ("/a*b*c", "/aXbYc", true),
            ("/a*b*c", "/abc", true),
            ("/a*b*c", "/acb", false),
            ("/ab*b", "/ab", false),
            ("", "/", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_tiers_own_row_comes_before_that_for_any() {
        let all = [
            policy("requests", ANY_TIER, Scope::Organization),
            policy("requests", "PRO", Scope::User),
            policy("writes", ANY_TIER, Scope::User),
            policy("other", "FREE", Scope::User),
        ];
        let names = |tier| {
            of_tier(&all, tier)
                .iter()
                .map(|p| format!("{} {:?}", p.name, p.scope))
                .collect::<Vec<_>>()
        };
        assert_eq!(names("PRO"), ["requests User", "writes User"]);
        assert_eq!(names("TEAMS"), ["requests Organization", "writes User"]);
    }

    #[test]
    fn by_user_the_users_own_tier_counts() {
        let all = [
            policy("requests", "FREE", Scope::Organization),
            policy("user_requests", "FREE", Scope::User),
            policy("requests", "PRO", Scope::Organization),
            policy("user_requests", "PRO", Scope::User),
            policy("writes", ANY_TIER, Scope::User),
        ];
        let of = of_request(&all, "FREE", "PRO");
        let names: Vec<_> = of.iter().map(|p| (&*p.name, &*p.tier)).collect();
        assert_eq!(
            names,
            [
                ("requests", "FREE"),
                ("user_requests", "PRO"),
                ("writes", ANY_TIER)
            ]
        );
    }

    #[test]
    fn addresses_count_by_network() {
        let address = policy("p", ANY_TIER, Scope::Address);
        let key = |text: &str| {
            let network = Some(Network::of(text.parse().unwrap()));
            address.counts_for(&RequestInfo {
                network,
                ..UNAUTHENTICATED
            })
        };
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:2"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }

    #[test]
    fn a_policy_applies_to_whom_and_what_it_names() {
        let user = policy("p", ANY_TIER, Scope::User);
        assert_eq!(user.counts_for(&UNAUTHENTICATED), None);
        let request = RequestInfo {
            user: Some([7; 16]),
            ..UNAUTHENTICATED
        };
        assert_eq!(user.counts_for(&request), Some(Identity::of_uuid([7; 16])));
        let address = policy("p", ANY_TIER, Scope::Address);
        let unknown = address.counts_for(&UNAUTHENTICATED).unwrap();
        assert_eq!(unknown.bytes(), b"unknown");
        let posts = RateLimitPolicy {
            method: Some("POST".into()),
            ..address.clone()
        };
        assert_eq!(posts.counts_for(&UNAUTHENTICATED), None);
        let calls = RateLimitPolicy {
            route: Some("/rpc/*".into()),
            ..address
        };
        assert_eq!(calls.counts_for(&UNAUTHENTICATED), None);
    }
}
