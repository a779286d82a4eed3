//! The caller of a request: `kijko.actor()`, `kijko.user_id()` and `kijko.session_id()`.
//!
//! An API key that was identified is the caller (api_key/calling.rs). Otherwise the token's claims say who it is. They count only
//! in a trusted session (trust.rs), and not after their session was revoked (session.rs). Every function of the extension that
//! asks for the caller uses `caller()`.

use pgrx::Uuid;
use pgrx::prelude::*;
use serde_json::{Map, Value};

use crate::api_key::calling;
use crate::api_key::record::{ApiKey, Kind};
use crate::claims::{self, uuid_claim};
use crate::pg::composite;
use crate::pg::sql_function::{Answer, Arguments, sql_function};
use crate::session;

sql_function!(kijko_actor, pg_finfo_kijko_actor, actor);

/// The roles that a token can have.
pub const USER_ROLE: &str = "authenticated";
pub const SERVICE_ROLE: &str = "service_role";
const ANONYMOUS_ROLE: &str = "anon";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    User([u8; 16]),
    Key {
        kind: Kind,
        id: [u8; 16],
        organization: [u8; 16],
        owner: Option<[u8; 16]>,
    },
    /// The service key of the installation.
    Service,
    /// A request without a token, or with the anon key.
    Anonymous,
    /// No claims that count.
    None,
}

impl Caller {
    fn kind(self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Key { kind, .. } => kind.caller(),
            Self::Service => "service",
            Self::Anonymous => "anonymous",
            Self::None => "none",
        }
    }

    fn of_key(key: &ApiKey) -> Self {
        Self::Key {
            kind: key.kind,
            id: key.id,
            organization: key.organization,
            owner: key.owner,
        }
    }

    /// The user, or the owner of a personal key.
    fn user(self) -> Option<[u8; 16]> {
        match self {
            Self::User(id) => Some(id),
            Self::Key { owner, .. } => owner,
            Self::Service | Self::Anonymous | Self::None => None,
        }
    }
}

/// The claim `session_id`. A token may name no session (an external issuer's), but one that names something else is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Session {
    None,
    Malformed,
    Named([u8; 16]),
}

impl Session {
    fn of(claims: &Map<String, Value>) -> Self {
        match claims.get("session_id") {
            None | Some(Value::Null) => Self::None,
            Some(_) => uuid_claim(claims, "session_id").map_or(Self::Malformed, Self::Named),
        }
    }

    fn is_live(self) -> bool {
        match self {
            Self::None => true,
            Self::Malformed => false,
            Self::Named(id) => !session::is_revoked(&id),
        }
    }
}

/// The caller of this request.
pub fn caller() -> Caller {
    if let Some(key) = calling::current() {
        return Caller::of_key(&key);
    }
    let claimed = claims::with(|claims| Some((claimed(claims), Session::of(claims))));
    match claimed {
        None | Some((Caller::None, _)) => Caller::None,
        Some((caller, session)) if session.is_live() => caller,
        Some(_) => Caller::None,
    }
}

/// Whom the claims name.
fn claimed(claims: &Map<String, Value>) -> Caller {
    match claims.get("role").and_then(Value::as_str) {
        Some(USER_ROLE) => uuid_claim(claims, "sub").map_or(Caller::None, Caller::User),
        Some(SERVICE_ROLE) => Caller::Service,
        Some(ANONYMOUS_ROLE) => Caller::Anonymous,
        _ => Caller::None,
    }
}

/// Kind, user, API key and the key's organization.
fn actor(arguments: Arguments) -> Answer {
    let caller = caller();
    let (key, organization) = match caller {
        Caller::Key {
            id, organization, ..
        } => (Some(id), Some(organization)),
        _ => (None, None),
    };
    let user = caller.user();
    let columns = [
        caller.kind().into(),
        user.as_ref().into(),
        key.as_ref().into(),
        organization.as_ref().into(),
    ];
    // SAFETY: declared as kijko.caller, whose columns have these types.
    Ok(unsafe { composite::form(arguments.call(), &columns) })
}

/// The user who makes this request, or the owner of the personal key that does. Null for any other caller.
#[pg_extern(stable, parallel_safe)]
fn user_id() -> Option<Uuid> {
    caller().user().map(Uuid::from_bytes)
}

/// The session of the token. Null when there is none, or it was revoked.
#[pg_extern(stable, parallel_safe)]
fn session_id() -> Option<Uuid> {
    if calling::current().is_some() {
        return None;
    }
    match claims::with(|claims| Some(Session::of(claims)))? {
        Session::Named(id) if !session::is_revoked(&id) => Some(Uuid::from_bytes(id)),
        _ => None,
    }
}

#[cfg(test)]
mod unit {
    use serde_json::json;

    use super::*;

    const ID: &str = "11111111-1111-4111-8111-111111111111";

    #[test]
    fn the_role_says_which_kind() {
        for (claims, expected) in [
            (
                json!({"role": "authenticated", "sub": ID}),
                Caller::User([
                    0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x41, 0x11, 0x81, 0x11, 0x11, 0x11, 0x11,
                    0x11, 0x11, 0x11,
                ]),
            ),
            (json!({"role": "authenticated"}), Caller::None),
            (
                json!({"role": "authenticated", "sub": "someone"}),
                Caller::None,
            ),
            (json!({"role": "service_role", "sub": ID}), Caller::Service),
            (json!({"role": "anon", "sub": ID}), Caller::Anonymous),
            (json!({"role": "postgres", "sub": ID}), Caller::None),
            (json!({"role": ["authenticated"], "sub": ID}), Caller::None),
            (json!({"sub": ID}), Caller::None),
        ] {
            assert_eq!(claimed(claims.as_object().unwrap()), expected, "{claims}");
        }
    }

    #[test]
    fn a_session_is_a_uuid_or_missing() {
        let of = |claims: Value| Session::of(claims.as_object().unwrap());
        assert_eq!(of(json!({})), Session::None);
        assert_eq!(of(json!({"session_id": null})), Session::None);
        assert_eq!(of(json!({"session_id": "mine"})), Session::Malformed);
        assert_eq!(of(json!({"session_id": 7})), Session::Malformed);
        assert!(matches!(of(json!({"session_id": ID})), Session::Named(_)));
    }
}
