//! Two routers by audience. The public one has the domains' routes; a proxy leads to it. The operators' one has `/metrics` and
//! `/ready` and a listener of its own, so that these pages are private without a rule in any proxy.

use std::{any::Any, sync::Arc};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    response::{IntoResponse, Response},
};
use tower_http::catch_panic::CatchPanicLayer;

use super::{
    config::{HttpConfig, RouteLimits},
    metrics::HttpSeries,
    middleware::{
        observe::{Observer, observe},
        refusals, unread_body,
    },
    routes::{health, metrics, ready},
};
use crate::{
    db::Db,
    error::Error,
    service::Service,
    telemetry::{metrics::Metrics, readiness::Check, traces::Tracer},
};

/// What both routers need.
#[derive(Clone)]
pub struct Server {
    /// The service.
    pub service: Service,
    /// Limits of requests.
    pub config: HttpConfig,
    /// Limits of routes that need other ones.
    pub limits: Arc<RouteLimits>,
    /// Where requests are counted.
    pub series: Arc<HttpSeries>,
    /// The database, whose policies limit refused requests.
    pub db: Db,
    /// Whether the service runs jobs, and so may look at the queue.
    pub has_queue: bool,
    /// Takes the spans of requests.
    pub tracer: Tracer,
}

/// The routes of the domains, and `/health` for a load balancer. From the inside out: a body cap, panics as errors, the limit
/// of refusals, what refusals leave unread of a body, and everything in `observe`.
pub fn public(server: &Server, routes: Router) -> Router {
    let limit = middleware::from_fn_with_state(server.db.clone(), refusals::limit);
    let routes = guard(server, routes.merge(health(server)))
        .layer(limit)
        .layer(middleware::from_fn_with_state(
            server.config.streams,
            unread_body::drain,
        ));
    observed(server, routes, false)
}

/// `/metrics`, `/ready` and `/health`.
pub fn operators(server: &Server, metrics: Arc<Metrics>, checks: Vec<Arc<dyn Check>>) -> Router {
    let routes = health(server)
        .merge(ready::route(server.service, server.db.clone(), checks))
        .merge(metrics::route(metrics));
    observed(server, guard(server, routes), true)
}

fn health(server: &Server) -> Router {
    health::route(server.service, server.db.clone(), server.has_queue)
}

fn guard(server: &Server, routes: Router) -> Router {
    routes
        .fallback(async || Error::NotFound)
        .method_not_allowed_fallback(async || Error::MethodNotAllowed)
        .layer(DefaultBodyLimit::max(server.config.max_body_bytes))
        .layer(CatchPanicLayer::custom(panicked))
}

fn observed(server: &Server, routes: Router, probes_only: bool) -> Router {
    let observer = Observer::new(
        server.config.clone(),
        server.limits.clone(),
        server.series.clone(),
        probes_only,
        server.tracer.clone(),
    );
    routes.layer(middleware::from_fn_with_state(Arc::new(observer), observe))
}

/// The panic hook has logged message and place; the client learns neither.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    Error::Internal {
        cause: "the handler panicked".to_owned(),
    }
    .into_response()
}
