//! Revokes tokens at their providers, and tells the database which providers there are. Both go on by themselves: a crash or a
//! provider that is down delays a revocation and loses none.

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::future::join_all;
use kijko_core::{
    Domain,
    db::{Channel, DbError, Wake},
};
use serde::Deserialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::provider::{Provider, Providers, Revocation};

/// The database forgets a provider that was not named for five minutes.
const PERIOD: Duration = Duration::from_secs(60);

/// Where tokens wait to be revoked.
pub(crate) trait Waiting: Send + Sync + 'static {
    /// What the log calls it.
    const NAME: &'static str;

    /// Says which providers there are.
    fn register(&self, providers: &Providers) -> impl Future<Output = Result<(), DbError>> + Send;

    /// Tokens that are due, leased for a while.
    fn due(&self) -> impl Future<Output = Result<Vec<Due>, DbError>> + Send;

    /// Forgets a token that is revoked.
    fn revoked(&self, id: Uuid) -> impl Future<Output = Result<(), DbError>> + Send;

    /// Whether the token must not be revoked, because that would end others.
    fn spares(&self, _due: &Due, _provider: &Provider) -> bool {
        false
    }

    /// Counts what a provider was asked.
    fn count(&self, _is_done: bool) {}
}

/// A token to be revoked, and where.
#[derive(Debug, Deserialize)]
pub(crate) struct Due {
    pub id: Uuid,
    pub provider: String,
    /// There is a newer token of the account.
    #[serde(default)]
    pub replaced: bool,
    #[serde(flatten)]
    pub tokens: Revocation,
}

/// Revokes what waits, from time to time and when the channel says so. Without providers there is nothing to do.
pub(crate) fn revoke_in_background<W: Waiting>(
    domain: &mut Domain,
    channel: &'static str,
    waiting: W,
    providers: Arc<Providers>,
) {
    if providers.is_empty() {
        return;
    }
    let wakeup = Arc::new(Notify::new());
    domain.channels.push(Channel {
        name: channel,
        wake: Wake::Look(wakeup.clone()),
    });
    let revocations = Revocations {
        waiting,
        providers,
        wakeup,
    };
    domain
        .background
        .push(Box::new(|stop| Box::pin(revocations.run(stop))));
}

struct Revocations<W> {
    waiting: W,
    providers: Arc<Providers>,
    wakeup: Arc<Notify>,
}

impl<W: Waiting> Revocations<W> {
    async fn run(self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.round().await {
                tracing::warn!(%error, "{}: the database does not answer", W::NAME);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.wakeup.notified() => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }

    async fn round(&self) -> Result<(), DbError> {
        self.waiting.register(&self.providers).await?;
        loop {
            let due = self.waiting.due().await?;
            if due.is_empty() {
                return Ok(());
            }
            // All at the same time: a slow provider does not hold up the others.
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
        if self.waiting.spares(due, provider) {
            return self.waiting.revoked(due.id).await;
        }
        let done = provider.revoke(&due.tokens).await;
        self.waiting.count(done.is_ok());
        match done {
            Ok(()) => self.waiting.revoked(due.id).await,
            Err(fault) => {
                tracing::warn!(provider = due.provider, %fault, "a token is not revoked yet");
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kijko_core::secret::Secret;
    use serde_json::json;

    use super::*;

    #[test]
    fn login_and_connections_name_tokens_differently() {
        let read = |value| serde_json::from_value::<Due>(value).unwrap();
        let of_login = read(json!({
            "id": Uuid::nil(), "provider": "github", "provider_token": "a", "provider_refresh_token": "r"
        }));
        let of_connections = read(json!({
            "id": Uuid::nil(), "provider": "github", "replaced": true, "access_token": "a"
        }));
        assert_eq!(of_login.tokens.access_token, Secret::new("a"));
        assert_eq!(of_login.tokens.refresh_token, Some(Secret::new("r")));
        assert!(!of_login.replaced);
        assert_eq!(of_connections.tokens.access_token, Secret::new("a"));
        assert_eq!(of_connections.tokens.refresh_token, None);
        assert!(of_connections.replaced);
        assert!(
            serde_json::from_value::<Due>(json!({"id": Uuid::nil(), "provider": "github"}))
                .is_err()
        );
    }
}
