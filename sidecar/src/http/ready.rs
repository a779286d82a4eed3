//! `GET /ready`: can it do its work? `down` (503) without a database or at shutdown; `degraded` (200) when work goes on
//! but someone should look; `ok`.

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;

use super::AppState;
use crate::{db::DbError, jobs::queue, stripe};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Degraded,
    Down,
}

#[derive(Debug, Serialize)]
pub(super) struct Readiness {
    status: Status,
    version: &'static str,
    checks: Checks,
}

#[derive(Debug, Serialize)]
struct Checks {
    database: Database,
    queue: Queue,
    listener: Simple,
    worker: Worker,
    llm: Llm,
    stripe: Stripe,
}

#[derive(Debug, Serialize)]
struct Database {
    status: Status,
    latency_ms: Option<f64>,
}

#[derive(Debug, Default, Serialize)]
struct Depth {
    queued: i64,
    running: i64,
    dead: i64,
    oldest_queued_seconds: f64,
}

#[derive(Debug, Serialize)]
struct Queue {
    status: Status,
    #[serde(flatten)]
    depth: Option<Depth>,
}

#[derive(Debug, Serialize)]
struct Simple {
    status: Status,
}

#[derive(Debug, Serialize)]
struct Worker {
    status: Status,
    running: usize,
    slots: usize,
    stopping: bool,
}

#[derive(Debug, Serialize)]
struct Llm {
    status: Status,
    providers: Vec<&'static str>,
    recent: Vec<Vendor>,
}

/// The last five minutes.
#[derive(Debug, Serialize)]
struct Vendor {
    name: &'static str,
    status: Status,
    calls: usize,
    errors: usize,
    error_rate: f64,
}

/// Unlinked and unplanned subscriptions are shown but degrade nothing: an account may sell other things too.
#[derive(Debug, Serialize)]
struct Stripe {
    status: Status,
    configured: bool,
    failed: Option<i64>,
    given_up: Option<i64>,
    oldest_failed_seconds: Option<f64>,
    unlinked: Option<i64>,
    unplanned: Option<i64>,
}

pub(super) async fn ready(State(state): State<AppState>) -> (StatusCode, Json<Readiness>) {
    let database = database(&state).await;
    let checks = Checks {
        queue: queue(&state, database.status).await,
        stripe: stripe(&state, database.status).await,
        database,
        listener: Simple {
            status: degraded_unless(state.wakeups.connected() || state.worker.concurrency == 0),
        },
        worker: worker(&state),
        llm: llm(&state),
    };
    let status = checks.worst();
    let code = if status == Status::Down {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    (
        code,
        Json(Readiness {
            status,
            version: crate::VERSION,
            checks,
        }),
    )
}

impl Checks {
    fn worst(&self) -> Status {
        [
            self.database.status,
            self.queue.status,
            self.listener.status,
            self.worker.status,
            self.llm.status,
            self.stripe.status,
        ]
        .into_iter()
        .max()
        .unwrap_or(Status::Down)
    }
}

async fn database(state: &AppState) -> Database {
    match state.db.ping().await {
        Ok(latency) => Database {
            status: Status::Ok,
            latency_ms: Some((latency.as_secs_f64() * 1e6).round() / 1e3),
        },
        Err(error) => {
            log(&error);
            Database {
                status: Status::Down,
                latency_ms: None,
            }
        }
    }
}

/// The database may answer and still lack the migrations or the grants.
async fn queue(state: &AppState, database: Status) -> Queue {
    if database != Status::Ok {
        return Queue {
            status: Status::Degraded,
            depth: None,
        };
    }
    match queue::stats(&state.db).await {
        Ok(stats) => {
            let depth = stats.iter().fold(Depth::default(), |sum, kind| Depth {
                queued: sum.queued + kind.queued,
                running: sum.running + kind.running,
                dead: sum.dead + kind.dead,
                oldest_queued_seconds: sum.oldest_queued_seconds.max(kind.oldest_queued_seconds),
            });
            let fresh = depth.oldest_queued_seconds <= state.worker.queue_age_warning.as_secs_f64();
            Queue {
                status: degraded_unless(fresh),
                depth: Some(depth),
            }
        }
        Err(error) => {
            log(&error);
            Queue {
                status: Status::Degraded,
                depth: None,
            }
        }
    }
}

async fn stripe(state: &AppState, database: Status) -> Stripe {
    let backlog = match database {
        Status::Ok => stripe::backlog(&state.db).await.inspect_err(log).ok(),
        _ => None,
    };
    Stripe {
        status: degraded_unless(backlog.is_some_and(|backlog| backlog.failed == 0)),
        configured: !state.stripe.webhook_secrets.is_empty(),
        failed: backlog.map(|backlog| backlog.failed),
        given_up: backlog.map(|backlog| backlog.given_up),
        oldest_failed_seconds: backlog.map(|backlog| backlog.oldest_failed_seconds),
        unlinked: backlog.map(|backlog| backlog.unlinked),
        unplanned: backlog.map(|backlog| backlog.unplanned),
    }
}

fn worker(state: &AppState) -> Worker {
    let stopping = state.stop.is_cancelled();
    Worker {
        status: if stopping { Status::Down } else { Status::Ok },
        running: state.running.count(),
        slots: state.worker.concurrency,
        stopping,
    }
}

/// Never down: without a vendor, or with one that fails, everything else goes on.
fn llm(state: &AppState) -> Llm {
    let recent: Vec<_> = state
        .providers
        .iter()
        .map(|name| {
            let health = state.metrics.vendor_health(name);
            Vendor {
                name,
                status: degraded_unless(!health.is_poor()),
                calls: health.calls,
                errors: health.errors,
                error_rate: (health.error_rate() * 1e3).round() / 1e3,
            }
        })
        .collect();
    let worst = recent.iter().map(|vendor| vendor.status).max();
    Llm {
        status: worst.unwrap_or(Status::Degraded),
        providers: state.providers.clone(),
        recent,
    }
}

fn degraded_unless(fine: bool) -> Status {
    if fine { Status::Ok } else { Status::Degraded }
}

fn log(error: &DbError) {
    tracing::warn!(%error, "not ready");
}
