//! `GET /health`: the process is alive. It asks nothing else, so that a database that is away does not get the process killed.

use axum::{Json, Router, routing::get};
use serde_json::json;

use crate::service::Service;

/// The route.
pub fn route(service: Service) -> Router {
    let answer = Json(json!({"status": "ok", "version": service.version}));
    Router::new().route("/health", get(move || async { answer }))
}
