//! `GET /health`: the process is alive. It checks nothing else, so that an unreachable database does not get the process killed.

use axum::{Json, Router, routing::get};
use serde_json::json;

use crate::service::Service;

/// The route.
pub fn route(service: Service) -> Router {
    let answer = Json(json!({"status": "ok", "version": service.version}));
    Router::new().route("/health", get(move || async { answer }))
}
