//! Revokes tokens of connections that were removed or replaced, and tells the database which providers there are. Both go on by
//! themselves: a crash or a provider that is down delays a revocation and loses none.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use kijko_core::db::DbError;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    metrics::ConnectionSeries,
    store::{Due, Store},
};
use crate::oauth::{
    config::Kind,
    provider::{Providers, Revocation},
};

/// The database forgets a provider that was not named for five minutes.
const PERIOD: Duration = Duration::from_secs(60);

pub(super) struct Revocations {
    pub store: Store,
    pub providers: Arc<Providers>,
    pub wakeup: Arc<Notify>,
    pub series: Arc<ConnectionSeries>,
}

impl Revocations {
    pub(super) async fn run(self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.round().await {
                tracing::warn!(%error, "connections: the database does not answer");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.wakeup.notified() => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }

    async fn round(&self) -> Result<(), DbError> {
        self.store.register(self.providers.values()).await?;
        loop {
            let due = self.store.due().await?;
            if due.is_empty() {
                return Ok(());
            }
            // All at the same time: a slow provider does not hold up the others.
            for done in join_all(due.into_iter().map(|due| self.revoke(due))).await {
                done?;
            }
        }
    }

    /// A failure is tried again when the lease ends.
    async fn revoke(&self, due: Due) -> Result<(), DbError> {
        let Some(provider) = self.providers.get(&due.provider) else {
            tracing::warn!(
                provider = due.provider,
                "a token cannot be revoked: the provider is not configured"
            );
            return Ok(());
        };
        // OpenID providers may end all of the account's tokens with one, and so the newer one.
        if due.replaced && provider.config.kind == Kind::Oidc {
            return self.store.revoked(due.id).await;
        }
        let tokens = Revocation {
            access_token: due.access_token,
            refresh_token: due.refresh_token,
        };
        let done = provider.revoke(&tokens).await;
        self.series.revoked(done.is_ok());
        match done {
            Ok(()) => self.store.revoked(due.id).await,
            Err(fault) => {
                tracing::warn!(provider = due.provider, %fault, "a token is not revoked yet");
                Ok(())
            }
        }
    }
}
