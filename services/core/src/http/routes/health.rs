//! `GET /health`: the process is alive (200, always). For a load balancer and a status page it says, too, how long the database takes
//! to answer and how much waits in the queue, in figures of the whole installation that name nobody. An unreachable database makes it
//! `degraded` and not a failure, so that it does not get the process killed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Json, Router, extract::State, routing::get};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{
    db::Db,
    jobs::{checks::Depth, queue},
    service::Service,
};

/// Anybody may ask, so the database is asked once in this time, and waited for no longer than that.
const FRESH: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(1);

struct Health {
    service: Service,
    db: Db,
    /// Whether this service runs jobs, and so may look at the queue.
    has_queue: bool,
    last: Mutex<Option<(Instant, Value)>>,
}

/// The route.
pub fn route(service: Service, db: Db, has_queue: bool) -> Router {
    let last = Mutex::default();
    Router::new()
        .route("/health", get(health))
        .with_state(Arc::new(Health {
            service,
            db,
            has_queue,
            last,
        }))
}

async fn health(State(health): State<Arc<Health>>) -> Json<Value> {
    // Those that come meanwhile wait for the one that asks.
    let mut last = health.last.lock().await;
    if let Some((at, answer)) = &*last
        && at.elapsed() < FRESH
    {
        return Json(answer.clone());
    }
    let answer = health.ask().await;
    *last = Some((Instant::now(), answer.clone()));
    Json(answer)
}

impl Health {
    async fn ask(&self) -> Value {
        let ping = tokio::time::timeout(PATIENCE, self.db.ping()).await;
        let latency = ping.ok().and_then(Result::ok);
        let mut answer = json!({
            "status": if latency.is_some() { "ok" } else { "degraded" },
            "version": self.service.version,
            "database": {"up": latency.is_some(), "latency_ms": latency.map(|it| it.as_micros() as f64 / 1e3)},
        });
        if self.has_queue && latency.is_some() {
            let stats = tokio::time::timeout(PATIENCE, queue::stats(&self.db)).await;
            if let Ok(Ok(stats)) = stats {
                let depth = Depth::of(&stats);
                answer["queue"] = json!({
                    "queued": depth.queued, "running": depth.running, "oldest_seconds": depth.oldest_queued_seconds,
                });
            }
        }
        answer
    }
}
