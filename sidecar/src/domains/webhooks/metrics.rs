//! What operators see of the outbox. A scrape reads all of it, so every instance shows the same figures.

use std::{collections::BTreeMap, sync::Mutex};

use futures_util::future::BoxFuture;
use kijko_core::{
    db::Db,
    telemetry::metrics::{Counter, EncodeLabelSet, Gauges, Registry, Series, Unit},
};
use prometheus_client::metrics::{family::Family, gauge::Gauge};

use super::store::{self, Outbox};

/// Origins that keep their samples, at 0 once nothing of them is due.
const MAX_ORIGINS: usize = 50;

type NoLabels = [(&'static str, &'static str); 0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OriginLabels {
    origin: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OriginOutcomeLabels {
    origin: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OriginStateLabels {
    origin: String,
    state: &'static str,
}

/// The outbox of the whole database.
pub(super) struct OutboxSeries {
    db: Db,
    requests: Family<StateLabels, Gauge>,
    // Families without labels, since a lone gauge cannot be left out of a scrape.
    oldest: Gauges<NoLabels>,
    in_flight: Family<NoLabels, Gauge>,
    attempts: Family<OutcomeLabels, Counter>,
    dead: Family<NoLabels, Counter>,
    errors: Family<NoLabels, Counter>,
    of_origin: Family<OriginStateLabels, Gauge>,
    oldest_of_origin: Gauges<OriginLabels>,
    attempts_of_origin: Family<OriginOutcomeLabels, Gauge>,
    /// Origins that were shown, with the number of the last scrape in which they had due requests or attempts.
    origins: Mutex<(u64, BTreeMap<String, u64>)>,
}

impl OutboxSeries {
    pub(super) fn new(db: Db) -> Self {
        Self {
            db,
            requests: Family::default(),
            oldest: Family::default(),
            in_flight: Family::default(),
            attempts: Family::default(),
            dead: Family::default(),
            errors: Family::default(),
            of_origin: Family::default(),
            oldest_of_origin: Family::default(),
            attempts_of_origin: Family::default(),
            origins: Mutex::default(),
        }
    }

    /// No sample is better than a stale one.
    fn clear(&self) {
        self.requests.clear();
        self.oldest.clear();
        self.in_flight.clear();
        self.attempts.clear();
        self.dead.clear();
        self.errors.clear();
        self.of_origin.clear();
        self.oldest_of_origin.clear();
        self.attempts_of_origin.clear();
    }

    fn set(&self, outbox: &Outbox) {
        self.clear();
        for (state, count) in [
            ("waiting", outbox.waiting),
            ("pending", outbox.pending),
            ("dead", outbox.dead),
        ] {
            let labels = StateLabels { state };
            self.requests.get_or_create(&labels).set(count);
        }
        let oldest = self.oldest.get_or_create(&[]);
        oldest.set(outbox.oldest_due_seconds.max(0.0));
        self.set_figures(&outbox.figures);
        self.set_origins(outbox);
    }

    fn set_figures(&self, figures: &BTreeMap<String, u64>) {
        let figure = |name: &str| figures.get(name).copied().unwrap_or_default();
        let in_flight = self.in_flight.get_or_create(&[]);
        in_flight.set(i64::try_from(figure("in_flight")).unwrap_or(i64::MAX));
        set(&self.dead.get_or_create(&[]), figure("dead"));
        set(&self.errors.get_or_create(&[]), figure("errors"));
        let succeeded = figures
            .get("succeeded")
            .map(|count| ("succeeded".to_owned(), *count));
        let failed = figures.iter().filter_map(|(name, count)| {
            let outcome = name.strip_prefix("failed_")?;
            Some((outcome.to_owned(), *count))
        });
        for (outcome, count) in succeeded.into_iter().chain(failed) {
            let labels = OutcomeLabels { outcome };
            set(&self.attempts.get_or_create(&labels), count);
        }
    }

    fn set_origins(&self, outbox: &Outbox) {
        for origin in self.shown(outbox) {
            self.set_attempts(outbox, &origin);
            let host = outbox.hosts.iter().find(|host| host.origin == origin);
            for (state, count) in [
                ("due", host.map(|host| host.due)),
                ("retrying", host.map(|host| host.retrying)),
            ] {
                let origin = origin.clone();
                let labels = OriginStateLabels { origin, state };
                let gauge = self.of_origin.get_or_create(&labels);
                gauge.set(count.unwrap_or(0));
            }
            let oldest = host.map_or(0.0, |host| host.oldest_seconds.max(0.0));
            let labels = OriginLabels { origin };
            self.oldest_of_origin.get_or_create(&labels).set(oldest);
        }
    }

    fn set_attempts(&self, outbox: &Outbox, origin: &str) {
        let of_origin = outbox.attempts.iter().find(|it| it.origin == origin);
        for (outcome, count) in [
            ("succeeded", of_origin.map(|it| it.succeeded)),
            ("failed", of_origin.map(|it| it.failed)),
        ] {
            let origin = origin.to_owned();
            let labels = OriginOutcomeLabels { origin, outcome };
            let gauge = self.attempts_of_origin.get_or_create(&labels);
            gauge.set(count.unwrap_or(0));
        }
    }

    /// The origins of now and of former scrapes. The ones of which nothing was heard for longest are forgotten.
    fn shown(&self, outbox: &Outbox) -> Vec<String> {
        let mut origins = self.origins.lock().unwrap_or_else(|it| it.into_inner());
        let (scrape, known) = &mut *origins;
        *scrape += 1;
        let due = outbox.hosts.iter().map(|host| &host.origin);
        let tried = outbox.attempts.iter().map(|it| &it.origin);
        for origin in due.chain(tried) {
            known.insert(origin.clone(), *scrape);
        }
        while known.len() > MAX_ORIGINS {
            let longest = known.iter().min_by_key(|(_, last)| **last);
            let Some(origin) = longest.map(|(origin, _)| origin.clone()) else {
                break;
            };
            known.remove(&origin);
        }
        known.keys().cloned().collect()
    }
}

/// To what the server has counted. It begins again at 0 when the server starts, as Prometheus expects of a counter.
fn set(counter: &Counter, count: u64) {
    counter
        .inner()
        .store(count, std::sync::atomic::Ordering::Relaxed);
}

impl Series for OutboxSeries {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "outbox_requests",
            "Requests of the outbox by state, each counted up to 100,000",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "outbox_oldest_due",
            "For how long the oldest request of the outbox has been due",
            Unit::Seconds,
            self.oldest.clone(),
        );
        registry.register(
            "outbox_in_flight",
            "Requests that the outbox is sending",
            self.in_flight.clone(),
        );
        registry.register(
            "outbox_attempts",
            "Attempts of the outbox by outcome, of all databases of the server",
            self.attempts.clone(),
        );
        registry.register(
            "outbox_dead",
            "Requests that the outbox gave up, of all databases of the server",
            self.dead.clone(),
        );
        registry.register(
            "outbox_errors",
            "Rounds of the outbox's workers that failed, of all databases of the server",
            self.errors.clone(),
        );
        registry.register(
            "outbox_origin_requests",
            "Due requests of the origins that have waited longest, each counted up to 1,000",
            self.of_origin.clone(),
        );
        registry.register_with_unit(
            "outbox_origin_oldest_due",
            "For how long the oldest request of these origins has been due",
            Unit::Seconds,
            self.oldest_of_origin.clone(),
        );
        registry.register(
            "outbox_origin_attempts",
            "Attempts of the last five minutes of the origins that failed most, by outcome",
            self.attempts_of_origin.clone(),
        );
    }

    fn refresh(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            match store::outbox(&self.db).await {
                Ok(outbox) => self.set(&outbox),
                Err(error) => {
                    self.clear();
                    tracing::warn!(%error, domain = "webhooks", "metrics without a backlog");
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kijko_core::telemetry::metrics::Metrics;

    use super::{
        super::store::{Attempts, Host},
        *,
    };
    use crate::app::{SERVICE, test::context};

    fn host(origin: &str) -> Host {
        Host {
            origin: origin.to_owned(),
            due: 3,
            retrying: 2,
            oldest_seconds: 1.5,
        }
    }

    fn series() -> (Arc<OutboxSeries>, Metrics) {
        let series = Arc::new(OutboxSeries::new(context().db));
        let metrics = Metrics::new(SERVICE, vec![series.clone()]);
        (series, metrics)
    }

    #[tokio::test]
    async fn what_has_drained_stays_at_0() {
        let (series, metrics) = series();
        let figures = [
            ("succeeded", 7),
            ("failed", 2),
            ("failed_timed_out", 2),
            ("in_flight", 1),
        ];
        let figures = figures.map(|(name, count)| (name.to_owned(), count));
        series.set(&Outbox {
            pending: 3,
            oldest_due_seconds: 1.5,
            hosts: vec![host("https://a.example:443")],
            attempts: vec![Attempts {
                origin: "https://b.example:443".to_owned(),
                succeeded: 5,
                failed: 4,
            }],
            figures: figures.into(),
            ..Outbox::default()
        });
        let text = metrics.encode().unwrap();
        for line in [
            "kijko_outbox_requests{state=\"pending\"} 3\n",
            "kijko_outbox_attempts_total{outcome=\"succeeded\"} 7\n",
            "kijko_outbox_attempts_total{outcome=\"timed_out\"} 2\n",
            "kijko_outbox_in_flight{} 1\n",
            "kijko_outbox_origin_requests{origin=\"https://a.example:443\",state=\"retrying\"} 2\n",
            "kijko_outbox_origin_oldest_due_seconds{origin=\"https://a.example:443\"} 1.5\n",
            "kijko_outbox_origin_attempts{origin=\"https://b.example:443\",outcome=\"failed\"} 4\n",
            "kijko_outbox_origin_attempts{origin=\"https://a.example:443\",outcome=\"failed\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} {text}");
        }
        series.set(&Outbox::default());
        let text = metrics.encode().unwrap();
        for line in [
            "kijko_outbox_requests{state=\"pending\"} 0\n",
            "kijko_outbox_oldest_due_seconds{} 0.0\n",
            "kijko_outbox_in_flight{} 0\n",
            "kijko_outbox_origin_requests{origin=\"https://a.example:443\",state=\"due\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} {text}");
        }
        series.clear();
        assert!(!metrics.encode().unwrap().contains("kijko_outbox_requests{"));
    }

    #[tokio::test]
    async fn origins_are_bounded_and_the_present_ones_stay() {
        let (series, metrics) = series();
        for round in 0..10 {
            let hosts = (0..20).map(|n| host(&format!("https://{n}.{round}.example:443")));
            let hosts = hosts.collect();
            series.set(&Outbox {
                hosts,
                ..Outbox::default()
            });
        }
        let text = metrics.encode().unwrap();
        let count = text
            .matches("kijko_outbox_origin_oldest_due_seconds{")
            .count();
        assert_eq!(count, MAX_ORIGINS);
        for n in 0..20 {
            assert!(text.contains(&format!("https://{n}.9.example:443")));
        }
    }
}
