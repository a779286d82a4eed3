//! `GET /metrics`: OpenMetrics text, which Prometheus reads.

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use super::AppState;
use crate::{error::Error, jobs::queue, stripe, telemetry::QueueGauges};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn metrics(State(state): State<AppState>) -> Result<Response, Error> {
    let stats = queue::stats(&state.db)
        .await
        .inspect_err(|error| tracing::warn!(%error, "metrics without the queue"))
        .ok();
    let backlog = stripe::backlog(&state.db)
        .await
        .inspect_err(|error| tracing::warn!(%error, "metrics without Stripe's backlog"))
        .ok();
    state.metrics.stripe.take_backlog(backlog);
    let gauges = QueueGauges {
        stats,
        listening: state.wakeups.connected(),
        running_here: state.running.count(),
        slots: state.worker.concurrency,
    };
    let text = state
        .metrics
        .scrape(state.db.pool_use(), &gauges)
        .map_err(|error| Error::Internal {
            cause: error.to_string(),
        })?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}
