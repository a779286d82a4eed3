//! What operators see of mail.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use futures_util::future::BoxFuture;
use kijko_core::{
    db::Db,
    telemetry::{
        metrics::{
            Counter, EncodeLabelSet, Gauges, Histograms, Registry, Series, Unit, WORK_SECONDS,
            histograms,
        },
        readiness::{Check, Report, Status},
    },
};
use prometheus_client::metrics::{family::Family, gauge::Gauge};

use super::store::{self, Backlog};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

type NoLabels = [(&'static str, &'static str); 0];

/// Attempts here, and what waits in the whole database.
pub(super) struct MailSeries {
    db: Db,
    attempts: Family<OutcomeLabels, Counter>,
    durations: Histograms<NoLabels>,
    messages: Family<StateLabels, Gauge>,
    // A family without labels, since a lone gauge cannot be left out of a scrape.
    oldest_queued: Gauges<NoLabels>,
    /// The last attempt found the server unreachable, or it refused our login.
    unavailable: AtomicBool,
}

impl MailSeries {
    pub(super) fn new(db: Db) -> Self {
        Self {
            db,
            attempts: Family::default(),
            durations: histograms(&WORK_SECONDS),
            messages: Family::default(),
            oldest_queued: Family::default(),
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

    /// `None` when the database did not answer: no sample is better than a stale one.
    fn set_backlog(&self, backlog: Option<Backlog>) {
        self.messages.clear();
        self.oldest_queued.clear();
        let Some(backlog) = backlog else { return };
        for (state, count) in [
            ("queued", backlog.queued),
            ("kept", backlog.kept),
            ("failed_last_hour", backlog.failed_last_hour),
        ] {
            self.messages
                .get_or_create(&StateLabels { state })
                .set(count);
        }
        self.oldest_queued
            .get_or_create(&[])
            .set(backlog.oldest_queued_seconds);
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
        registry.register(
            "mail_messages",
            "Mails in the whole database: queued, kept, or given up in the last hour",
            self.messages.clone(),
        );
        registry.register_with_unit(
            "mail_oldest_queued",
            "How long the oldest mail has waited to be sent",
            Unit::Seconds,
            self.oldest_queued.clone(),
        );
    }

    fn refresh(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let backlog = store::backlog(&self.db).await;
            if let Err(error) = &backlog {
                tracing::warn!(%error, "metrics without the mails that wait");
            }
            self.set_backlog(backlog.ok());
        })
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
        Box::pin(async move {
            let report = |status| Report::new(status).with("configured", self.configured);
            if !database_up {
                return report(Status::Degraded);
            }
            match store::backlog(&self.db).await {
                Ok(backlog) => report(self.status(&backlog)).with_all(&backlog),
                Err(error) => {
                    tracing::warn!(%error, "how many mails wait is unknown");
                    report(Status::Degraded)
                }
            }
        })
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
