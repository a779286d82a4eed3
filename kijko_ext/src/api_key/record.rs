//! What is stored about an API key, and whether it counts. Pure.

use std::rc::Rc;

use serde_json::{Value, json};

use crate::claims::parse_uuid;

pub type Uuid = [u8; 16];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Acts for its organization.
    Service,
    /// Acts for its owner.
    Personal,
    /// Used in browsers.
    Publishable,
}

impl Kind {
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "service" => Self::Service,
            "personal" => Self::Personal,
            "publishable" => Self::Publishable,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Personal => "personal",
            Self::Publishable => "publishable",
        }
    }

    /// The kind of caller.
    pub fn caller(self) -> &'static str {
        match self {
            Self::Service => "service_key",
            Self::Personal => "personal_key",
            Self::Publishable => "publishable_key",
        }
    }
}

/// What a request by the key depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    pub id: Uuid,
    pub organization: Uuid,
    pub kind: Kind,
    /// Only of a personal key.
    pub owner: Option<Uuid>,
    pub permissions: Vec<String>,
    /// Requests a minute.
    pub rate_limit: Option<u32>,
}

impl ApiKey {
    /// Whether every permission is one to read. Such a key cannot write, whatever a policy says.
    pub fn only_reads(&self) -> bool {
        self.permissions
            .iter()
            .all(|permission| permission.ends_with(":read"))
    }

    /// As text, for a setting.
    pub fn to_text(&self) -> String {
        let text = |id: Uuid| pgrx::Uuid::from_bytes(id).to_string();
        json!([
            text(self.id),
            text(self.organization),
            self.kind.name(),
            self.owner.map(text),
            self.permissions,
            self.rate_limit
        ])
        .to_string()
    }

    pub fn from_text(bytes: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        let [id, organization, kind, owner, permissions, rate_limit] = value.as_array()?.as_slice()
        else {
            return None;
        };
        let uuid = |value: &Value| parse_uuid(value.as_str()?);
        let permission = |value: &Value| Some(value.as_str()?.to_owned());
        Some(Self {
            id: uuid(id)?,
            organization: uuid(organization)?,
            kind: Kind::parse(kind.as_str()?)?,
            owner: uuid(owner),
            permissions: permissions
                .as_array()?
                .iter()
                .map(permission)
                .collect::<Option<_>>()?,
            rate_limit: rate_limit
                .as_u64()
                .and_then(|rate| u32::try_from(rate).ok()),
        })
    }
}

/// A row of kijko.api_keys. Times are Postgres microseconds.
pub struct Stored {
    pub key: Rc<ApiKey>,
    pub expires_at: Option<i64>,
    pub revoked_at: Option<i64>,
    pub suspended_until: Option<i64>,
    /// Only of a publishable key.
    pub origins: Vec<String>,
}

impl Stored {
    /// Why the key is refused at a time. None if it is valid.
    pub fn problem(&self, now: i64) -> Option<&'static str> {
        if self.revoked_at.is_some() {
            return Some("the API key was revoked");
        }
        if self.expires_at.is_some_and(|at| at <= now) {
            return Some("the API key has expired");
        }
        let suspended = self.suspended_until.is_some_and(|until| until > now);
        suspended.then_some("the API key is suspended")
    }

    /// Whether a request from this origin may use the key. A publishable key is accepted only from its origins.
    pub fn admits_origin(&self, origin: Option<&str>) -> bool {
        let listed = |origin: &str| {
            let is = |one: &String| one.eq_ignore_ascii_case(origin);
            self.origins.iter().any(is)
        };
        self.key.kind != Kind::Publishable || origin.is_some_and(listed)
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    fn key(kind: Kind, permissions: &[&str]) -> ApiKey {
        ApiKey {
            id: [1; 16],
            organization: [2; 16],
            kind,
            owner: (kind == Kind::Personal).then_some([3; 16]),
            permissions: permissions.iter().map(|name| (*name).to_owned()).collect(),
            rate_limit: Some(60),
        }
    }

    fn stored(kind: Kind) -> Stored {
        Stored {
            key: Rc::new(key(kind, &[])),
            expires_at: None,
            revoked_at: None,
            suspended_until: None,
            origins: vec!["https://example.com".to_owned()],
        }
    }

    #[test]
    fn a_key_reads_if_all_its_permissions_do() {
        for (permissions, reads) in [
            (&["*:read"][..], true),
            (&["content:read", "skills:read"], true),
            (&[], true),
            (&["content:read", "skills:write"], false),
            (&["events:ingest"], false),
            (&["*:write"], false),
            (&["read:write"], false),
        ] {
            assert_eq!(key(Kind::Service, permissions).only_reads(), reads);
        }
    }

    #[test]
    fn its_text_is_the_same_key() {
        for kind in [Kind::Service, Kind::Personal, Kind::Publishable] {
            let key = key(kind, &["*:read", "a\"b"]);
            assert_eq!(ApiKey::from_text(key.to_text().as_bytes()), Some(key));
        }
        let unlimited = ApiKey {
            rate_limit: None,
            ..key(Kind::Service, &[])
        };
        let text = unlimited.to_text();
        assert_eq!(ApiKey::from_text(text.as_bytes()), Some(unlimited));
        for text in ["", "[]", "{}", "[1,2,3,4,5,6]"] {
            assert_eq!(ApiKey::from_text(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_revoked_expired_or_suspended_key_does_not_count() {
        assert_eq!(stored(Kind::Service).problem(100), None);
        let of = |change: fn(&mut Stored)| {
            let mut stored = stored(Kind::Service);
            change(&mut stored);
            stored.problem(100)
        };
        assert!(of(|key| key.revoked_at = Some(1_000)).is_some());
        assert!(of(|key| key.expires_at = Some(100)).is_some());
        assert_eq!(of(|key| key.expires_at = Some(101)), None);
        assert!(of(|key| key.suspended_until = Some(101)).is_some());
        assert!(of(|key| key.suspended_until = Some(i64::MAX)).is_some());
        assert_eq!(of(|key| key.suspended_until = Some(100)), None);
    }

    #[test]
    fn a_publishable_key_counts_on_its_pages() {
        let key = stored(Kind::Publishable);
        assert!(key.admits_origin(Some("https://example.com")));
        assert!(key.admits_origin(Some("HTTPS://Example.com")));
        for other in [
            None,
            Some(""),
            Some("null"),
            Some("http://example.com"),
            Some("https://example.com:8443"),
            Some("https://example.com.evil.net"),
            Some("https://www.example.com"),
        ] {
            assert!(!key.admits_origin(other), "{other:?}");
        }
        assert!(stored(Kind::Service).admits_origin(None));
        assert!(stored(Kind::Personal).admits_origin(Some("https://evil.net")));
    }
}
