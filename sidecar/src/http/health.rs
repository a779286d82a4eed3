//! `GET /health`: the process is alive. It asks nobody, so that a database that is away does not get the sidecar killed.

use axum::Json;
use serde_json::{Value, json};

pub(super) async fn health() -> Json<Value> {
    Json(json!({"status": "ok", "version": crate::VERSION}))
}
