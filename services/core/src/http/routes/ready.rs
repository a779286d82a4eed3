//! `GET /ready`: can the service do its work? `down` (503) without a database or at shutdown; `degraded` (200) when work goes
//! on but an operator should look; `ok`.

use std::sync::Arc;

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use futures_util::future::join_all;
use serde_json::{Map, Value, json};

use crate::{
    db::{DatabaseCheck, Db},
    service::Service,
    telemetry::readiness::{Check, Status},
};

struct Readiness {
    service: Service,
    database: DatabaseCheck,
    checks: Vec<Arc<dyn Check>>,
}

/// The route. The database is asked first, since most of the other checks need it.
pub fn route(service: Service, db: Db, checks: Vec<Arc<dyn Check>>) -> Router {
    let database = DatabaseCheck(db);
    Router::new()
        .route("/ready", get(ready))
        .with_state(Arc::new(Readiness {
            service,
            database,
            checks,
        }))
}

async fn ready(State(readiness): State<Arc<Readiness>>) -> (StatusCode, Json<Value>) {
    let database = readiness.database.look(true).await;
    let database_up = database.status == Status::Ok;
    let others = readiness.checks.iter().map(async |check| {
        let report = check.look(database_up).await;
        (check.name(), report)
    });
    let mut reports = join_all(others).await;
    reports.push((readiness.database.name(), database));

    let worst = reports.iter().map(|(_, report)| report.status).max();
    let status = worst.unwrap_or(Status::Down);
    let code = match status {
        Status::Down => StatusCode::SERVICE_UNAVAILABLE,
        Status::Ok | Status::Degraded => StatusCode::OK,
    };
    let checks: Map<String, Value> = reports
        .into_iter()
        .map(|(name, report)| (name.to_owned(), json!(report)))
        .collect();
    let body = json!({"status": status, "version": readiness.service.version, "checks": checks});
    (code, Json(body))
}
