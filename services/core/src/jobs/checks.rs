//! Readiness of the queue, the listener and the worker.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{
    leases::Leases,
    queue::{self, QueueStats},
};
use crate::{
    db::{Db, Wakeups},
    telemetry::readiness::{Check, Report, Status},
};

/// `queue`: degraded when the oldest due job has waited too long, or the depth cannot be read. The database may answer and
/// still lack the migrations or the grants.
pub struct QueueCheck {
    /// Where the queue is.
    pub db: Db,
    /// What is too long.
    pub age_warning: Duration,
}

/// What waits in the whole queue.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Depth {
    pub(crate) queued: i64,
    pub(crate) running: i64,
    dead: i64,
    pub(crate) oldest_queued_seconds: f64,
}

impl Depth {
    pub(crate) fn of(stats: &[QueueStats]) -> Self {
        stats.iter().fold(Self::default(), |sum, kind| Self {
            queued: sum.queued + kind.queued,
            running: sum.running + kind.running,
            dead: sum.dead + kind.dead,
            oldest_queued_seconds: sum.oldest_queued_seconds.max(kind.oldest_queued_seconds),
        })
    }
}

impl Check for QueueCheck {
    fn name(&self) -> &'static str {
        "queue"
    }

    fn look(&self, database_up: bool) -> BoxFuture<'_, Report> {
        Box::pin(async move {
            if !database_up {
                return Report::new(Status::Degraded);
            }
            match queue::stats(&self.db).await {
                Ok(stats) => {
                    let depth = Depth::of(&stats);
                    let limit = self.age_warning.as_secs_f64();
                    let status = Status::degraded_unless(depth.oldest_queued_seconds <= limit);
                    Report::new(status).with_all(&depth)
                }
                Err(error) => {
                    tracing::warn!(%error, "the queue's depth is unknown");
                    Report::new(Status::Degraded)
                }
            }
        })
    }
}

/// `listener`: degraded while notifications do not arrive and jobs are found by polling.
pub struct ListenerCheck {
    /// What it would wake.
    pub wakeups: Arc<Wakeups>,
    /// Whether jobs run here at all.
    pub needed: bool,
}

impl Check for ListenerCheck {
    fn name(&self) -> &'static str {
        "listener"
    }

    fn look(&self, _: bool) -> BoxFuture<'_, Report> {
        let fine = self.wakeups.connected() || !self.needed;
        Box::pin(async move { Report::new(Status::degraded_unless(fine)) })
    }
}

/// `worker`: down when the process is about to end.
pub struct WorkerCheck {
    /// The jobs that run here.
    pub leases: Arc<Leases>,
    /// How many may.
    pub slots: usize,
    /// Cancelled when the process is about to end.
    pub stop: CancellationToken,
}

impl Check for WorkerCheck {
    fn name(&self) -> &'static str {
        "worker"
    }

    fn look(&self, _: bool) -> BoxFuture<'_, Report> {
        let stopping = self.stop.is_cancelled();
        let status = if stopping { Status::Down } else { Status::Ok };
        let report = Report::new(status)
            .with("running", self.leases.count())
            .with("slots", self.slots)
            .with("stopping", stopping);
        Box::pin(async move { report })
    }
}
