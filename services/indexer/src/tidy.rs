//! Each hour: the packs of repositories that are deleted leave the cache, and so do those that are old or too many.

use std::{collections::HashSet, sync::Arc, time::Duration};

use kijko_core::db::{Db, DbError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{cache::Cache, metrics::IndexerSeries};

const PAUSE: Duration = Duration::from_secs(3_600);

/// Why packs stay for another hour.
#[derive(Debug, thiserror::Error)]
enum TidyError {
    #[error(transparent)]
    Database(#[from] DbError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("the task ended: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// What keeps the cache small.
#[derive(Debug)]
pub struct Tidy {
    /// The packs.
    pub cache: Arc<Cache>,
    /// Knows the repositories.
    pub db: Db,
    /// What operators see.
    pub series: Arc<IndexerSeries>,
}

impl Tidy {
    /// Goes on until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.once().await {
                tracing::warn!(%error, "the cache was not tidied; another round follows in an hour");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    async fn once(&self) -> Result<(), TidyError> {
        let cache = self.cache.clone();
        let kept = tokio::task::spawn_blocking(move || cache.repositories()).await??;
        let asked: Vec<Uuid> = kept.iter().copied().collect();
        let sql = "select private.code_index_known($1)";
        let known: Vec<Uuid> = self.db.scalar(sql, &[&asked]).await?;
        let known = HashSet::from_iter(known);
        let gone: HashSet<Uuid> = kept.difference(&known).copied().collect();
        let cache = self.cache.clone();
        let bytes = tokio::task::spawn_blocking(move || {
            cache.forget(&gone)?;
            cache.trim()
        })
        .await??;
        self.series
            .cache_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
        Ok(())
    }
}
