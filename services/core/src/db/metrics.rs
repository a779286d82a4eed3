//! What operators see of the database's connections.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use prometheus_client::metrics::gauge::Gauge;

use super::{
    listener::Wakeups,
    pool::{Db, PoolUse},
};
use crate::telemetry::{
    metrics::{EncodeLabelSet, Gauges, Registry, Series},
    readiness::{Check, Report, Status},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

/// Whether the database answers and notifications arrive, and how full the pool is.
pub struct DatabaseSeries {
    db: Db,
    wakeups: Arc<Wakeups>,
    up: Gauge,
    listening: Gauge,
    pool: Gauges<StateLabels>,
}

impl DatabaseSeries {
    /// Of this pool and this listener.
    pub fn new(db: Db, wakeups: Arc<Wakeups>) -> Self {
        Self {
            db,
            wakeups,
            up: Gauge::default(),
            listening: Gauge::default(),
            pool: Gauges::default(),
        }
    }

    fn set_pool(&self, pool: PoolUse) {
        let states = [
            ("in_use", pool.open.saturating_sub(pool.idle)),
            ("idle", pool.idle),
            ("max", pool.max),
            ("waiting", pool.waiting),
        ];
        for (state, count) in states {
            let gauge = self.pool.get_or_create(&StateLabels { state });
            gauge.set(count as f64);
        }
    }
}

impl Series for DatabaseSeries {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "database_up",
            "1 when the database answered this scrape",
            self.up.clone(),
        );
        registry.register(
            "listener_connected",
            "1 while notifications arrive",
            self.listening.clone(),
        );
        registry.register(
            "db_pool_connections",
            "Connections of this process' pool",
            self.pool.clone(),
        );
    }

    fn refresh(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.set_pool(self.db.pool_use());
            self.up.set(self.db.ping().await.is_ok().into());
            self.listening.set(self.wakeups.connected().into());
        })
    }
}

/// `database`: down when it does not answer.
pub struct DatabaseCheck(pub Db);

impl Check for DatabaseCheck {
    fn name(&self) -> &'static str {
        "database"
    }

    fn look(&self, _: bool) -> BoxFuture<'_, Report> {
        Box::pin(async {
            match self.0.ping().await {
                Ok(latency) => {
                    let millis = (latency.as_secs_f64() * 1e6).round() / 1e3;
                    Report::new(Status::Ok).with("latency_ms", millis)
                }
                Err(error) => {
                    tracing::warn!(%error, "not ready");
                    Report::new(Status::Down).with("latency_ms", serde_json::Value::Null)
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_in_use_are_the_open_ones_that_are_not_idle() {
        let series = DatabaseSeries::new(crate::db::unreachable(), Arc::default());
        series.set_pool(PoolUse {
            open: 3,
            idle: 1,
            max: 8,
            waiting: 0,
        });
        let gauge = |state| series.pool.get_or_create(&StateLabels { state }).get();
        assert_eq!((gauge("in_use"), gauge("max")), (2.0, 8.0));
    }
}
