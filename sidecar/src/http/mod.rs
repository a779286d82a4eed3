//! The HTTP server: one file per route, and around them what every request gets.

pub(crate) mod body;
mod health;
mod limit;
mod metrics;
mod observe;
mod ready;

use std::{any::Any, sync::Arc};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    config::{HttpConfig, StripeConfig, WorkerConfig},
    db::{Db, Wakeups},
    error::Error,
    jobs::running::Running,
    stripe,
    telemetry::Metrics,
};

/// What the routes can reach.
#[derive(Clone)]
pub struct AppState {
    /// The database.
    pub db: Db,
    /// The metrics.
    pub metrics: Metrics,
    /// Limits of requests.
    pub http: HttpConfig,
    /// The worker's settings.
    pub worker: WorkerConfig,
    /// The jobs that run in this process.
    pub running: Arc<Running>,
    /// Whether notifications arrive.
    pub wakeups: Arc<Wakeups>,
    /// Names of the model providers that are configured.
    pub providers: Vec<&'static str>,
    /// Stripe's webhooks.
    pub stripe: Arc<StripeConfig>,
    /// Cancelled when this process is about to end.
    pub stop: CancellationToken,
}

/// The whole server, testable without a socket.
pub fn router(state: AppState) -> Router {
    let routes = Router::new()
        .route("/health", get(health::health))
        .route("/ready", get(ready::ready))
        .route("/metrics", get(metrics::metrics))
        .route("/webhooks/stripe", post(stripe::webhook::receive));
    wrap(routes, state)
}

/// What every request gets, from the inside out: a body cap, panics as errors, the limit of refusals, and everything in
/// [`observe`].
fn wrap(routes: Router<AppState>, state: AppState) -> Router {
    routes
        .fallback(async || Error::NotFound)
        .method_not_allowed_fallback(async || Error::MethodNotAllowed)
        .layer(DefaultBodyLimit::max(state.http.max_body_bytes))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(state.clone(), limit::limit))
        .layer(middleware::from_fn_with_state(
            state.clone(),
            observe::observe,
        ))
        .with_state(state)
}

/// The panic hook has logged message and place; what it said is not repeated to the client.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    Error::Internal {
        cause: "the handler panicked".to_owned(),
    }
    .into_response()
}

#[cfg(test)]
mod tests;
