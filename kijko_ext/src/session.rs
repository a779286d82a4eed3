//! Who is asking: the user and the session of the claims, unless the session was revoked.

use std::ffi::{CStr, CString};

use pgrx::prelude::*;
use pgrx::{Uuid, pg_sys};
use serde_json::{Map, Value};

use crate::{claims, guc};

mod revoked;
mod scope;
pub mod table;

/// The role that PostgREST gives to a person's token. Tokens of any other role (anon, service_role) name no user.
const USER_ROLE: &str = "authenticated";

/// The user who is asking, or null: no claims, not a user's token, or its session was revoked.
#[pg_extern(stable, parallel_safe)]
fn user_id() -> Option<Uuid> {
    user().map(Uuid::from_bytes)
}

/// The same for Rust.
pub fn user() -> Option<[u8; 16]> {
    let (user, session) = claims::with(|claims| {
        if claims.get("role").and_then(Value::as_str) != Some(USER_ROLE) {
            return None;
        }
        Some((uuid_claim(claims, "sub")?, session_claim(claims)))
    })?;
    match session {
        Session::None => Some(user),
        Session::Malformed => None,
        Session::Named(session) => (!revoked::is_revoked(&session)).then_some(user),
    }
}

/// The session of the token, or null: no claims, none named, or revoked.
#[pg_extern(stable, parallel_safe)]
fn session_id() -> Option<Uuid> {
    match claims::with(|claims| Some(session_claim(claims)))? {
        Session::Named(session) => {
            (!revoked::is_revoked(&session)).then_some(Uuid::from_bytes(session))
        }
        Session::None | Session::Malformed => None,
    }
}

/// The value of a setting, or nothing when it is missing or empty (as a custom setting is after its transaction).
pub fn setting(name: &CStr) -> Option<String> {
    with_setting(name, |value| String::from_utf8_lossy(value).into_owned())
}

/// Runs `body` on the bytes of a setting that is there and not empty. `body` must not ask Postgres anything.
pub fn with_setting<T>(name: &CStr, body: impl FnOnce(&[u8]) -> T) -> Option<T> {
    // SAFETY: the string belongs to the setting, which nothing changes while `body` runs.
    let value = unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        if value.is_null() {
            return None;
        }
        CStr::from_ptr(value).to_bytes()
    };
    (!value.is_empty()).then(|| body(value))
}

/// Sets a custom setting for this transaction, as set_config would do it.
pub fn set_local(name: &CStr, value: &str) {
    let value = CString::new(value).unwrap_or_default();
    // SAFETY: both strings outlive the call, which copies them.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_LOCAL,
            true,
            0,
            false,
        );
    }
}

/// Whether this session's login is one whose claims are believed.
pub fn is_trusted() -> bool {
    // SAFETY: plain look-ups; the name is a palloc'd copy.
    unsafe {
        let name = pg_sys::GetUserNameFromId(pg_sys::GetSessionUserId(), true);
        if name.is_null() {
            return false; // dropped while logged in
        }
        let trusted = guc::is_trusted_session_user(&CStr::from_ptr(name).to_string_lossy());
        pg_sys::pfree(name.cast());
        trusted
    }
}

enum Session {
    None,
    Malformed,
    Named([u8; 16]),
}

/// A token may have no session (an outside issuer's), but one that names something else is not ours.
fn session_claim(claims: &Map<String, Value>) -> Session {
    match claims.get("session_id") {
        None | Some(Value::Null) => Session::None,
        Some(_) => uuid_claim(claims, "session_id").map_or(Session::Malformed, Session::Named),
    }
}

fn uuid_claim(claims: &Map<String, Value>, name: &str) -> Option<[u8; 16]> {
    parse_uuid(claims.get(name)?.as_str()?)
}

/// The canonical form only (8-4-4-4-12 hexadecimal digits): what every issuer of ours writes.
pub fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let text = text.as_bytes();
    if text.len() != 36 {
        return None;
    }
    let mut bytes = [0; 16];
    let mut digits = 0;
    for (place, &byte) in text.iter().enumerate() {
        if matches!(place, 8 | 13 | 18 | 23) {
            if byte != b'-' {
                return None;
            }
            continue;
        }
        let digit = (byte as char).to_digit(16)? as u8;
        bytes[digits / 2] |= if digits % 2 == 0 { digit << 4 } else { digit };
        digits += 1;
    }
    Some(bytes)
}

#[cfg(test)]
mod unit {
    use super::parse_uuid;

    #[test]
    fn only_canonical_uuids() {
        assert_eq!(
            parse_uuid("00112233-4455-6677-8899-AABBccddeeff"),
            Some([
                0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd,
                0xee, 0xff
            ])
        );
        for text in [
            "",
            "00112233445566778899aabbccddeeff",
            "{00112233-4455-6677-8899-aabbccddeeff}",
            "0011223-34455-6677-8899-aabbccddeeff",
            "00112233-4455-6677-8899-aabbccddeefg",
            "00112233-4455-6677-8899-aabbccddee\u{e9}",
        ] {
            assert_eq!(parse_uuid(text), None, "{text}");
        }
    }
}

#[cfg(any(test, feature = "pg_test"))]
#[pg_schema]
mod tests {
    use pgrx::prelude::*;

    const SUB: &str = "11111111-1111-4111-8111-111111111111";
    const SESSION: &str = "22222222-2222-4222-8222-222222222222";

    fn ask(claims: &str) -> (Option<String>, Option<String>) {
        Spi::run_with_args(
            "select set_config('request.jwt.claims', $1, true)",
            &[claims.into()],
        )
        .unwrap();
        Spi::get_two("select kijko.user_id()::text, kijko.session_id()::text").unwrap()
    }

    #[pg_test]
    fn a_users_token_names_the_user_until_its_session_is_revoked() {
        let claims =
            format!(r#"{{"sub":"{SUB}","role":"authenticated","session_id":"{SESSION}"}}"#);
        assert_eq!(ask(&claims), (Some(SUB.into()), Some(SESSION.into())));
        Spi::run(&format!("select kijko.revoke_session('{SESSION}')")).unwrap();
        assert_eq!(ask(&claims), (None, None));
    }

    #[pg_test]
    fn everything_else_is_nobody() {
        for claims in [
            String::new(),
            "null".into(),
            "not json".into(),
            format!(r#"{{"sub":"{SUB}"}}"#),
            format!(r#"{{"sub":"{SUB}","role":"service_role"}}"#),
            format!(r#"{{"sub":"{SUB}","role":["authenticated"]}}"#),
            r#"{"sub":"someone","role":"authenticated"}"#.into(),
            r#"{"sub":null,"role":"authenticated"}"#.into(),
            r#"{"sub":7,"role":"authenticated"}"#.into(),
            r#"{"sub":"\u0000","role":"authenticated"}"#.into(),
            format!(r#"{{"sub":"{SUB}","role":"authenticated","session_id":"mine"}}"#),
            format!(r#"[{{"sub":"{SUB}","role":"authenticated"}}]"#),
        ] {
            assert_eq!(ask(&claims), (None, None), "{claims}");
        }
    }

    #[pg_test]
    fn an_untrusted_login_is_nobody() {
        let claims = format!(r#"{{"sub":"{SUB}","role":"authenticated"}}"#);
        assert_eq!(ask(&claims).0, Some(SUB.into()));
        Spi::run("create role stranger; set session authorization stranger").unwrap();
        assert_eq!(ask(&claims), (None, None));
        assert_eq!(
            Spi::get_one::<bool>("select kijko.claims() is null"),
            Ok(Some(true))
        );
    }
}
