//! Revokes tokens at their providers, and tells the database which providers there are. Both go on by themselves: a crash or a
//! provider that is down delays a revocation and loses none. At the end: what a provider is asked to forget.

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::future::join_all;
use kijko_core::{
    Domain,
    db::{Channel, DbError, Wake},
};
use reqwest::{Method, header};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    config::Kind,
    http::Fault,
    provider::{Application, Provider, Providers, Revocation},
};

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
    /// Whose token it is, if not the operator's.
    pub application: Option<Application>,
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
        let provider = provider.by(due.application.as_ref());
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

impl Provider {
    /// The refresh token of a GitHub App lives for months, and without its access token no application can name it. GitHub revokes it
    /// for whoever presents it, and takes no authorization there. Enterprise Servers do not: they ask for one (401), or have no such
    /// endpoint.
    async fn revoke_github_refresh(&self, tokens: &Revocation) -> Result<(), Fault> {
        const WHAT: &str = "revocation of the refresh token";
        let Some(token) = &tokens.refresh_token else {
            return Ok(());
        };
        let url = format!("{}/credentials/revoke", self.github_api());
        let request = self.http.request(Method::POST, &url, WHAT)?;
        let request = request
            .header(header::CONTENT_TYPE, "application/json")
            .body(json!({"credentials": [token.expose()]}).to_string());
        match self.http.send(request, WHAT).await?.status {
            200..300 | 401 | 404 | 422 => Ok(()),
            status => Err(Fault::Status(WHAT, status)),
        }
    }

    /// Asks the provider to forget tokens. Done where it has no endpoint for that, or does not know them.
    pub(crate) async fn revoke(&self, tokens: &Revocation) -> Result<(), Fault> {
        const WHAT: &str = "revocation";
        if self.config.kind == Kind::GitHub {
            // The whole grant, with tokens that clients were given before. But not the tokens of connections, if it has any.
            let what = match self.config.connection_scopes {
                Some(_) => "token",
                None => "grant",
            };
            let (api, client) = (self.github_api(), self.client_id());
            let url = format!("{api}/applications/{client}/{what}");
            let request = self.http.request(Method::DELETE, &url, WHAT)?;
            let request = request
                .header(header::AUTHORIZATION, self.basic(false))
                .header(header::CONTENT_TYPE, "application/json")
                .body(json!({"access_token": tokens.access_token.expose()}).to_string());
            return match self.http.send(request, WHAT).await?.status {
                200..300 | 404 | 422 => self.revoke_github_refresh(tokens).await,
                status => Err(Fault::Status(WHAT, status)),
            };
        }
        let metadata = self.metadata().await?;
        let endpoint = match &metadata {
            None if self.config.kind.is_social() => self.social_revoke(),
            None => Some(format!("{}/oauth/revoke", self.config.url)),
            Some(metadata) => metadata.revocation_endpoint.clone(),
        };
        let Some(endpoint) = endpoint else {
            return Ok(());
        };
        let refresh = tokens
            .refresh_token
            .iter()
            .map(|token| ("refresh_token", token));
        for (hint, token) in refresh.chain([("access_token", &tokens.access_token)]) {
            let fields = [("token", token.expose()), ("token_type_hint", hint)];
            let request = self.http.request(Method::POST, &endpoint, WHAT)?;
            let request = self.authenticated(request, &fields, metadata.as_deref());
            let status = self.http.send(request, WHAT).await?.status;
            if !(200..300).contains(&status) {
                return Err(Fault::Status(WHAT, status));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kijko_core::secret::Secret;

    use super::*;

    #[test]
    fn login_and_connections_name_tokens_differently() {
        let read = |value| serde_json::from_value::<Due>(value).unwrap();
        let of_login = read(json!({
            "id": Uuid::nil(), "provider": "github", "provider_token": "a", "provider_refresh_token": "r"
        }));
        let of_connections = read(json!({
            "id": Uuid::nil(), "provider": "github", "replaced": true, "access_token": "a",
            "application": {"client_id": "c", "client_secret": "hidden"}
        }));
        assert_eq!(of_login.tokens.access_token, Secret::new("a"));
        assert_eq!(of_login.tokens.refresh_token, Some(Secret::new("r")));
        assert!(!of_login.replaced);
        assert_eq!(of_connections.tokens.access_token, Secret::new("a"));
        assert_eq!(of_connections.tokens.refresh_token, None);
        assert!(of_connections.replaced);
        assert_eq!(of_connections.application.as_ref().unwrap().client_id, "c");
        assert!(!format!("{of_connections:?}").contains("hidden"));
        assert!(
            serde_json::from_value::<Due>(json!({"id": Uuid::nil(), "provider": "github"}))
                .is_err()
        );
    }
}
