//! Billing: what Stripe is asked for while a member waits, and what an operator has compared with it. Which parameters, and who
//! may, the database decides; what nobody waits for goes by its outbox.
//!
//! 1. `routes`: `POST /functions/v1/billing-*`.
//! 2. `operations`: the calls of each, by the typed `params`, over the `client`.
//! 3. `sync` and `reconcile`: the commands of `./kijko billing`.

mod client;
mod config;
mod fault;
mod operations;
mod params;
mod reconcile;
mod routes;
mod store;
mod sync;

pub mod command;

use std::time::Duration;

use client::Stripe;
use config::Account;
use kijko_core::{Context, Domain, Setup, SetupError, config::Reader};
use operations::Operations;
use routes::{Billing, routes};
use store::Store;
use tokio_util::sync::CancellationToken;

use crate::api::Api;

/// Reads `STRIPE_API_KEY`, `STRIPE_API_URL` and `KIJKO_REST_URL`.
pub fn from_env(env: &mut Reader<'_>) -> Setup {
    let account = Account::read(env);
    let rest_url = Api::url(env);
    Box::new(move |context| domain(account, Api::at(rest_url)?, context))
}

fn domain(
    account: Option<Account>,
    api: Option<Api>,
    context: &Context,
) -> Result<Domain, SetupError> {
    let mut domain = Domain::default();
    let mut operations = None;
    if let Some(account) = account {
        let store = Store::new(context.db.clone(), &account);
        operations = Some(Operations {
            stripe: Stripe::new(&account)?,
            store: store.clone(),
        });
        domain.background.push(Box::new(move |stop| {
            Box::pin(register(store, account, stop))
        }));
    }
    domain.routes = routes(&Billing { api, operations });
    Ok(domain)
}

const RETRY: Duration = Duration::from_secs(2);

/// Until the database knows the account.
async fn register(store: Store, account: Account, stop: CancellationToken) {
    while let Err(error) = store.register(&account).await {
        tracing::warn!(%error, "the account at Stripe is not registered yet");
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}
