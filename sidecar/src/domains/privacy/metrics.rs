//! What operators see of exports and erasures.

use std::future::Future;

use futures_util::future::BoxFuture;
use kijko_core::{
    db::{Db, DbError},
    telemetry::{
        backlog::{self, BacklogGauges},
        metrics::{Registry, Series},
    },
};

use super::store::{self, Backlog};

/// Gauges of the backlog.
pub(super) struct PrivacySeries {
    db: Db,
    backlog: BacklogGauges<Backlog>,
}

impl PrivacySeries {
    pub(super) fn new(db: Db) -> Self {
        Self {
            db,
            backlog: BacklogGauges::default(),
        }
    }
}

impl Series for PrivacySeries {
    fn register(&self, registry: &mut Registry) {
        self.backlog.register(registry);
    }

    fn refresh(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.backlog.refresh(&self.db))
    }
}

impl backlog::Backlog for Backlog {
    const DOMAIN: &'static str = "privacy";
    const COUNTS: (&'static str, &'static str) = (
        "privacy_backlog",
        "Exports and erasures under way, and those and proofs that failed or hang, in the whole database",
    );
    const OLDEST: (&'static str, &'static str) = (
        "privacy_oldest_due",
        "For how long the oldest export or erasure has been due",
    );
    type Source = Db;
    type Error = DbError;

    fn read(db: &Db) -> impl Future<Output = Result<Self, DbError>> + Send {
        store::backlog(db)
    }

    fn counts(&self) -> Vec<(&'static str, i64)> {
        vec![
            ("exports", self.exports),
            ("erasures", self.erasures),
            ("failed", self.failed),
        ]
    }

    fn oldest_seconds(&self) -> f64 {
        self.oldest_due_seconds
    }
}
