//! What operators see of mail.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use futures_util::future::BoxFuture;
use kijko_core::{
    db::{Db, DbError},
    telemetry::{
        backlog::{self, BacklogGauges},
        metrics::{
            Counter, EncodeLabelSet, Histograms, Registry, Series, Unit, WORK_SECONDS, histograms,
        },
        readiness::{Check, Report, Status},
    },
};
use prometheus_client::metrics::family::Family;

use super::store::{self, Backlog};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

type NoLabels = [(&'static str, &'static str); 0];

/// Attempts here, and what waits in the whole database.
pub(super) struct MailSeries {
    db: Db,
    attempts: Family<OutcomeLabels, Counter>,
    durations: Histograms<NoLabels>,
    backlog: BacklogGauges<Backlog>,
    /// The last attempt found the server unreachable, or it refused our login.
    unavailable: AtomicBool,
}

impl MailSeries {
    pub(super) fn new(db: Db) -> Self {
        Self {
            db,
            attempts: Family::default(),
            durations: histograms(&WORK_SECONDS),
            backlog: BacklogGauges::default(),
            unavailable: AtomicBool::new(false),
        }
    }

    /// One attempt ended without asking the server.
    pub(super) fn ended(&self, outcome: &'static str) {
        self.attempts
            .get_or_create(&OutcomeLabels { outcome })
            .inc();
    }

    /// One conversation with the server, from now on.
    pub(super) fn sending(self: &Arc<Self>) -> Sending {
        Sending {
            series: self.clone(),
            start: Instant::now(),
            outcome: "dropped",
        }
    }
}

impl Series for MailSeries {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "mail_attempts",
            "Attempts to send a mail; the outcome is sent, an error code, given_up or dropped",
            self.attempts.clone(),
        );
        registry.register_with_unit(
            "mail_attempt_duration",
            "Time of a conversation with the mail server",
            Unit::Seconds,
            self.durations.clone(),
        );
        self.backlog.register(registry);
    }

    fn refresh(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.backlog.refresh(&self.db))
    }
}

impl backlog::Backlog for Backlog {
    const DOMAIN: &'static str = "mail";
    const COUNTS: (&'static str, &'static str) = (
        "mail_messages",
        "Mails in the whole database: queued, kept, or given up in the last hour",
    );
    const OLDEST: (&'static str, &'static str) = (
        "mail_oldest_queued",
        "How long the oldest mail has waited to be sent",
    );
    type Source = Db;
    type Error = DbError;

    fn read(db: &Db) -> impl Future<Output = Result<Self, DbError>> + Send {
        store::backlog(db)
    }

    fn counts(&self) -> Vec<(&'static str, i64)> {
        vec![
            ("queued", self.queued),
            ("kept", self.kept),
            ("failed_last_hour", self.failed_last_hour),
        ]
    }

    fn oldest_seconds(&self) -> f64 {
        self.oldest_queued_seconds
    }
}

/// A conversation that runs. It is counted when it is dropped, so that one that is cut off is counted too.
pub(super) struct Sending {
    series: Arc<MailSeries>,
    start: Instant,
    outcome: &'static str,
}

impl Sending {
    pub(super) fn ended(mut self, outcome: &'static str) {
        self.outcome = outcome;
        let unavailable = matches!(outcome, "smtp_unreachable" | "smtp_auth");
        self.series
            .unavailable
            .store(unavailable, Ordering::Relaxed);
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.series.ended(self.outcome);
        self.series
            .durations
            .get_or_create(&[])
            .observe(self.start.elapsed().as_secs_f64());
    }
}

/// `mail`: never down, since everything else goes on without mail.
pub(super) struct MailCheck {
    pub db: Db,
    /// This worker has a mail server.
    pub configured: bool,
    pub series: Arc<MailSeries>,
}

/// A mail that waits longer is no longer a matter of a busy moment.
const OLD_SECONDS: f64 = 300.0;

impl MailCheck {
    /// Degraded when mails that should be sent are not: no worker or another setting than the database's, an unreachable server,
    /// or a mail that waits for long.
    fn status(&self, backlog: &Backlog) -> Status {
        let delivers = backlog.delivery == "smtp";
        let unavailable = self.series.unavailable.load(Ordering::Relaxed);
        Status::degraded_unless(
            delivers == self.configured
                && !unavailable
                && backlog.oldest_queued_seconds < OLD_SECONDS,
        )
    }
}

impl Check for MailCheck {
    fn name(&self) -> &'static str {
        "mail"
    }

    fn look(&self, database_up: bool) -> BoxFuture<'_, Report> {
        Box::pin(backlog::look(
            &self.db,
            database_up,
            self.configured,
            |backlog| self.status(backlog),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::test::context;

    fn backlog(delivery: &str, oldest_queued_seconds: f64) -> Backlog {
        Backlog {
            delivery: delivery.to_owned(),
            queued: 1,
            oldest_queued_seconds,
            kept: 0,
            failed_last_hour: 0,
        }
    }

    #[tokio::test]
    async fn mail_is_degraded_when_it_is_wanted_and_not_sent() {
        let db = context().db;
        let series = Arc::new(MailSeries::new(db.clone()));
        let mut check = MailCheck {
            db,
            configured: false,
            series: series.clone(),
        };
        assert_eq!(check.status(&backlog("keep", 0.0)), Status::Ok);
        assert_eq!(check.status(&backlog("smtp", 0.0)), Status::Degraded);
        check.configured = true;
        assert_eq!(check.status(&backlog("smtp", 0.0)), Status::Ok);
        assert_eq!(check.status(&backlog("keep", 0.0)), Status::Degraded);
        assert_eq!(check.status(&backlog("smtp", 301.0)), Status::Degraded);
        series.sending().ended("smtp_auth");
        assert_eq!(check.status(&backlog("smtp", 0.0)), Status::Degraded);
        series.sending().ended("smtp_refused");
        assert_eq!(check.status(&backlog("smtp", 0.0)), Status::Ok);
    }
}
