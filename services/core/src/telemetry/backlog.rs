//! What waits in the whole database, for a worker or for a person: gauges of `/metrics` and a check of `/ready`, from one query
//! of a domain. Knows no database: a domain says how its backlog is read.

use std::{fmt, future::Future, marker::PhantomData};

use prometheus_client::metrics::{family::Family, gauge::Gauge};
use serde::Serialize;

use super::{
    metrics::{EncodeLabelSet, Gauges, Registry, Unit},
    readiness::{Report, Status},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

type NoLabels = [(&'static str, &'static str); 0];

/// What a domain's query found. Its fields are the details of the check.
pub trait Backlog: Serialize + Send + Sync + Sized {
    /// The domain, in logs.
    const DOMAIN: &'static str;
    /// Name and help of the series of counts by state.
    const COUNTS: (&'static str, &'static str);
    /// Name, without its unit, and help of the series of the longest wait.
    const OLDEST: (&'static str, &'static str);

    /// What is asked.
    type Source: Send + Sync;
    /// Why it did not answer.
    type Error: fmt::Display + Send;

    /// Asks, with each scrape and each check. It must end by itself when the source is unreachable.
    fn read(source: &Self::Source) -> impl Future<Output = Result<Self, Self::Error>> + Send;

    /// How many are in each state.
    fn counts(&self) -> Vec<(&'static str, i64)>;

    /// How long the oldest has waited, in seconds.
    fn oldest_seconds(&self) -> f64;
}

/// The gauges of a backlog.
#[derive(Debug)]
pub struct BacklogGauges<B> {
    counts: Family<StateLabels, Gauge>,
    // A family without labels, since a lone gauge cannot be left out of a scrape.
    oldest: Gauges<NoLabels>,
    backlog: PhantomData<fn() -> B>,
}

impl<B> Default for BacklogGauges<B> {
    fn default() -> Self {
        Self {
            counts: Family::default(),
            oldest: Family::default(),
            backlog: PhantomData,
        }
    }
}

impl<B: Backlog> BacklogGauges<B> {
    /// Adds both series.
    pub fn register(&self, registry: &mut Registry) {
        let (name, help) = B::COUNTS;
        registry.register(name, help, self.counts.clone());
        let (name, help) = B::OLDEST;
        registry.register_with_unit(name, help, Unit::Seconds, self.oldest.clone());
    }

    /// Sets them to what is read now. No sample is better than a stale one.
    pub async fn refresh(&self, source: &B::Source) {
        let backlog = B::read(source).await;
        self.counts.clear();
        self.oldest.clear();
        match backlog {
            Ok(backlog) => {
                for (state, count) in backlog.counts() {
                    self.counts.get_or_create(&StateLabels { state }).set(count);
                }
                self.oldest.get_or_create(&[]).set(backlog.oldest_seconds());
            }
            Err(error) => tracing::warn!(%error, domain = B::DOMAIN, "metrics without a backlog"),
        }
    }
}

/// What a check says: the status that `judge` finds, with the backlog as details. Degraded when the backlog is unknown, and never
/// down: other work goes on. `configured` tells whether this process has what the domain needs.
pub async fn look<B: Backlog>(
    source: &B::Source,
    database_up: bool,
    configured: bool,
    judge: impl FnOnce(&B) -> Status + Send,
) -> Report {
    let report = |status| Report::new(status).with("configured", configured);
    if !database_up {
        return report(Status::Degraded);
    }
    match B::read(source).await {
        Ok(backlog) => report(judge(&backlog)).with_all(&backlog),
        Err(error) => {
            tracing::warn!(%error, domain = B::DOMAIN, "a backlog is unknown");
            report(Status::Degraded)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures_util::future::BoxFuture;
    use serde_json::json;

    use super::*;
    use crate::{
        service::Service,
        telemetry::metrics::{Metrics, Series},
    };

    #[derive(Clone, Serialize)]
    struct Letters {
        waiting: i64,
        oldest_seconds: f64,
    }

    /// None: it does not answer.
    type Source = Arc<Mutex<Option<Letters>>>;

    impl Backlog for Letters {
        const DOMAIN: &'static str = "letters";
        const COUNTS: (&'static str, &'static str) = ("letters", "Letters by state");
        const OLDEST: (&'static str, &'static str) = ("letters_oldest", "The longest wait");
        type Source = Source;
        type Error = &'static str;

        async fn read(source: &Source) -> Result<Self, &'static str> {
            source.lock().unwrap().clone().ok_or("no answer")
        }

        fn counts(&self) -> Vec<(&'static str, i64)> {
            vec![("waiting", self.waiting)]
        }

        fn oldest_seconds(&self) -> f64 {
            self.oldest_seconds
        }
    }

    struct LetterSeries(Source, BacklogGauges<Letters>);

    impl Series for LetterSeries {
        fn register(&self, registry: &mut Registry) {
            self.1.register(registry);
        }

        fn refresh(&self) -> BoxFuture<'_, ()> {
            Box::pin(self.1.refresh(&self.0))
        }
    }

    fn source(waiting: i64) -> Source {
        let oldest_seconds = 1.5;
        Arc::new(Mutex::new(Some(Letters {
            waiting,
            oldest_seconds,
        })))
    }

    #[tokio::test]
    async fn a_source_that_does_not_answer_leaves_no_sample() {
        let source = source(3);
        let series = LetterSeries(source.clone(), BacklogGauges::default());
        let metrics = Metrics::new(Service::TEST, vec![Arc::new(series)]);
        let text = metrics.scrape().await.unwrap();
        assert!(
            text.contains("kijko_letters{state=\"waiting\"} 3\n"),
            "{text}"
        );
        assert!(
            text.contains("kijko_letters_oldest_seconds{} 1.5\n"),
            "{text}"
        );
        *source.lock().unwrap() = None;
        let text = metrics.scrape().await.unwrap();
        assert!(!text.contains("kijko_letters{"), "{text}");
        assert!(!text.contains("kijko_letters_oldest_seconds{"), "{text}");
    }

    #[tokio::test]
    async fn a_check_judges_what_it_reads_and_is_degraded_without() {
        let source = source(3);
        let judge = |letters: &Letters| Status::degraded_unless(letters.waiting < 3);
        let found = look(&source, true, true, judge).await;
        assert_eq!(
            serde_json::to_value(&found).unwrap(),
            json!({ "status": "degraded", "configured": true, "waiting": 3, "oldest_seconds": 1.5 })
        );
        source.lock().unwrap().as_mut().unwrap().waiting = 2;
        assert_eq!(look(&source, true, false, judge).await.status, Status::Ok);
        let unknown = json!({ "status": "degraded", "configured": false });
        let blind = look(&source, false, false, judge).await;
        assert_eq!(serde_json::to_value(&blind).unwrap(), unknown);
        *source.lock().unwrap() = None;
        let silent = look(&source, true, false, judge).await;
        assert_eq!(serde_json::to_value(&silent).unwrap(), unknown);
    }
}
