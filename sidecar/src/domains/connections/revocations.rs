//! Tokens of connections that were removed or replaced wait here to be revoked.

use std::sync::Arc;

use kijko_core::db::DbError;
use uuid::Uuid;

use super::{metrics::ConnectionSeries, store::Store};
use crate::oauth::{
    config::Kind,
    provider::{Provider, Providers},
    revocations::{Due, Waiting},
};

pub(super) struct RemovedTokens {
    pub store: Store,
    pub series: Arc<ConnectionSeries>,
}

impl Waiting for RemovedTokens {
    const NAME: &'static str = "connections";

    async fn register(&self, providers: &Providers) -> Result<(), DbError> {
        self.store.register(providers.values()).await
    }

    async fn due(&self) -> Result<Vec<Due>, DbError> {
        self.store.due().await
    }

    async fn revoked(&self, id: Uuid) -> Result<(), DbError> {
        self.store.revoked(id).await
    }

    /// OpenID providers may end all of the account's tokens with one, and so the newer one.
    fn spares(&self, due: &Due, provider: &Provider) -> bool {
        due.replaced && provider.config.kind == Kind::Oidc
    }

    fn count(&self, is_done: bool) {
        self.series.revoked(is_done);
    }
}
