//! Who is asking: the user and the session of the claims, unless the session was revoked.

use pgrx::Uuid;
use pgrx::prelude::*;
use serde_json::{Map, Value};

use crate::claims::{self, uuid_claim};

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
