//! Connections: an organization's accounts at other services. What of them needs HTTP; the database decides.
//!
//! 1. `routes`: a browser opens a ticket and is sent to the provider; the callback exchanges the code. The database keeps the tokens
//!    until the member completes the connection.
//! 2. `handlers`: jobs that refresh tokens before they expire.
//! 3. `revocations`: tokens of connections that were removed or replaced are revoked.

mod handlers;
mod metrics;
mod revocations;
mod routes;
mod store;

use std::sync::Arc;

use handlers::RefreshHandler;
use kijko_core::{Context, Domain, Setup, SetupError, config::Reader};
use metrics::ConnectionSeries;
use revocations::RemovedTokens;
use routes::{Connections, routes};
use store::Store;

use crate::oauth::{config::OAuthConfig, providers, revocations::revoke_in_background};

/// Reads `KIJKO_CONNECTION_PROVIDERS` and `KIJKO_OAUTH_*`.
pub fn from_env(env: &mut Reader<'_>) -> Setup {
    let config = OAuthConfig::read(env);
    Box::new(move |context| domain(config, context))
}

fn domain(config: OAuthConfig, context: &Context) -> Result<Domain, SetupError> {
    let providers = providers(config, |provider| provider.connection_scopes.is_some())?;
    let providers = Arc::new(providers);
    let store = Store::new(context.db.clone());
    let series = Arc::new(ConnectionSeries::default());
    let mut domain = Domain {
        routes: routes(Connections {
            store: store.clone(),
            providers: providers.clone(),
            series: series.clone(),
        }),
        series: vec![series.clone()],
        ..Domain::default()
    };
    domain.jobs.register(Arc::new(RefreshHandler {
        store: store.clone(),
        providers: providers.clone(),
        series: series.clone(),
    }));
    let removed = RemovedTokens { store, series };
    revoke_in_background(&mut domain, "kijko_connections", removed, providers);
    Ok(domain)
}
