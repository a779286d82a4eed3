//! Revokes tokens at their providers, and tells the database which providers there are. Both go on by themselves: a crash or a
//! provider that is down delays a revocation and loses none.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use kijko_core::db::DbError;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::store::{Due, Store};
use crate::oauth::provider::Providers;

/// The database forgets a provider that was not named for five minutes.
const PERIOD: Duration = Duration::from_secs(60);

pub(super) struct Revocations {
    pub store: Store,
    pub providers: Arc<Providers>,
    pub wakeup: Arc<Notify>,
}

impl Revocations {
    pub(super) async fn run(self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.round().await {
                tracing::warn!(%error, "outside providers: the database does not answer");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.wakeup.notified() => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }

    async fn round(&self) -> Result<(), DbError> {
        let names: Vec<&str> = self.providers.keys().map(String::as_str).collect();
        let verifying = self.providers.values().map(|provider| &provider.config);
        let verifying: Vec<&str> = verifying
            .filter(|config| config.verifying)
            .map(|config| config.name.as_str())
            .collect();
        self.store.register(&names, &verifying).await?;
        loop {
            let due = self.store.due().await?;
            if due.is_empty() {
                return Ok(());
            }
            // At once: a provider that is slow holds up none of the others.
            for done in join_all(due.iter().map(|due| self.revoke(due))).await {
                done?;
            }
        }
    }

    /// A failure is tried again when the lease ends.
    async fn revoke(&self, due: &Due) -> Result<(), DbError> {
        let Some(provider) = self.providers.get(&due.provider) else {
            tracing::warn!(
                provider = due.provider,
                "a token cannot be revoked: the provider is not configured"
            );
            return Ok(());
        };
        match provider.revoke(&due.tokens).await {
            Ok(()) => self.store.revoked(due.id).await,
            Err(fault) => {
                tracing::warn!(provider = due.provider, %fault, "a token is not revoked yet");
                Ok(())
            }
        }
    }
}
