//! Sign-in through outside providers, on a plain Postgres: what of it needs HTTP.
//!
//! 1. `GET /auth/v1/authorize` sends a browser to the provider. The database keeps hashes of the state and of a secret in a cookie.
//! 2. `GET /auth/v1/callback` takes the state, exchanges the code at the provider, and asks who has signed in.
//! 3. The database decides whose the identity is, makes the session, and says where the browser goes (`auth_api.answer_external`).
//! 4. Tokens of identities that were unlinked are revoked at their providers.

mod routes;
mod store;

use std::sync::Arc;

use kijko_core::{Context, Domain, Setup, SetupError, config::Reader};
use routes::{Login, routes};
use store::Store;

use crate::oauth::{config::OAuthConfig, providers, revocations::revoke_in_background};

/// Reads `KIJKO_OAUTH_*`.
pub fn from_env(env: &mut Reader<'_>) -> Setup {
    let config = OAuthConfig::read(env);
    Box::new(move |context| domain(config, context))
}

fn domain(config: OAuthConfig, context: &Context) -> Result<Domain, SetupError> {
    let providers = Arc::new(providers(config, |provider| provider.signs_in)?);
    let store = Store::new(context.db.clone());
    let mut domain = Domain {
        routes: routes(Login {
            store: store.clone(),
            providers: providers.clone(),
            max_body_bytes: context.max_body_bytes,
        }),
        ..Domain::default()
    };
    revoke_in_background(&mut domain, "kijko_oauth", store, providers);
    Ok(domain)
}
