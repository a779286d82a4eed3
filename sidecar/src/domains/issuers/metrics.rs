//! What operators see of issuers.

use std::future::Future;

use futures_util::future::BoxFuture;
use kijko_core::{
    db::{Db, DbError},
    telemetry::{
        backlog::{self, BacklogGauges},
        metrics::{Registry, Series},
        readiness::{Check, Report, Status},
    },
};

use super::store::{self, Backlog};

/// Gauges of the issuers of all organizations.
pub(super) struct IssuersSeries {
    db: Db,
    backlog: BacklogGauges<Backlog>,
}

impl IssuersSeries {
    pub(super) fn new(db: Db) -> Self {
        Self {
            db,
            backlog: BacklogGauges::default(),
        }
    }
}

impl Series for IssuersSeries {
    fn register(&self, registry: &mut Registry) {
        self.backlog.register(registry);
    }

    fn refresh(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.backlog.refresh(&self.db))
    }
}

impl backlog::Backlog for Backlog {
    const DOMAIN: &'static str = "issuers";
    const COUNTS: (&'static str, &'static str) =
        ("issuers", "Issuers by state, in the whole database");
    const OLDEST: (&'static str, &'static str) = (
        "issuers_oldest_failing_keys",
        "How old the oldest keys are of the issuers that fail",
    );
    type Source = Db;
    type Error = DbError;

    fn read(db: &Db) -> impl Future<Output = Result<Self, DbError>> + Send {
        store::backlog(db)
    }

    fn counts(&self) -> Vec<(&'static str, i64)> {
        vec![
            ("active", self.active),
            ("pending", self.pending),
            ("failing", self.failing),
            ("unverified", self.unverified),
            ("disabled", self.disabled),
        ]
    }

    fn oldest_seconds(&self) -> f64 {
        self.oldest_failing_seconds
    }
}

/// `issuers`: degraded while the keys of an issuer that worked cannot be fetched, or nobody can tell. Never down: the last good
/// keys stay in use. One that never worked is its organization's to mend.
pub(super) struct IssuersCheck {
    pub db: Db,
}

impl Check for IssuersCheck {
    fn name(&self) -> &'static str {
        "issuers"
    }

    fn look(&self, database_up: bool) -> BoxFuture<'_, Report> {
        Box::pin(backlog::look(&self.db, database_up, true, judge))
    }
}

fn judge(backlog: &Backlog) -> Status {
    Status::degraded_unless(backlog.failing == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_that_has_worked_degrades() {
        let fine = Backlog {
            active: 3,
            pending: 1,
            failing: 0,
            unverified: 2,
            disabled: 1,
            oldest_failing_seconds: 0.0,
        };
        assert_eq!(judge(&fine), Status::Ok);
        let fails = Backlog { failing: 1, ..fine };
        assert_eq!(judge(&fails), Status::Degraded);
    }
}
