//! OAuth with outside providers, for sign-in ([`crate::login`]) and for connections of organizations (`crate::domains::connections`).
//!
//! - `config`: the settings; `http`: the guarded client; `discovery`: what OpenID providers say of themselves.
//! - `provider`: what each kind of provider is asked; `profile`: whose account it is.
//! - `social`: LinkedIn, Facebook, Instagram and X.
//! - `revocations`: tokens that are revoked in the background.
//! - `browser`: the state, and the secret in a cookie that binds it to a browser; `callback`: a provider's answer.
//!
//! The secret of the browser is the source of two values that the provider binds its answer to: the verifier of our own PKCE and
//! the nonce of the identity token. So a code that was stolen, or that another browser got, is worth nothing here.

pub(crate) mod browser;
pub(crate) mod callback;
pub(crate) mod config;
pub(crate) mod discovery;
pub(crate) mod http;
mod profile;
pub(crate) mod provider;
pub(crate) mod revocations;
mod social;

use kijko_core::SetupError;

use config::{OAuthConfig, ProviderConfig};
use http::Http;
use provider::{Provider, Providers};

/// The providers that are for `purpose`.
pub(crate) fn providers(
    config: OAuthConfig,
    purpose: impl Fn(&ProviderConfig) -> bool,
) -> Result<Providers, SetupError> {
    let http = Http::new(config.allowed)?;
    let of_purpose = config.providers.into_iter().filter(|it| purpose(it));
    Ok(of_purpose
        .map(|config| (config.name.clone(), Provider::new(config, http.clone())))
        .collect())
}
