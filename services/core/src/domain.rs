//! The shape of a domain: what it brings to a service.

use std::{sync::Arc, time::Duration};

use axum::Router;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Reader,
    db::{Channel, Db},
    http::RouteLimits,
    jobs,
    telemetry::{metrics::Series, readiness::Check, traces::Tracer},
};

/// What a domain brings. A new one brings nothing; fields are added as needed.
#[derive(Default)]
pub struct Domain {
    /// Public routes.
    pub routes: Router,
    /// Limits of those of its routes that need other ones than all have.
    pub limits: RouteLimits,
    /// Kinds of jobs.
    pub jobs: jobs::Registry,
    /// Series of `/metrics`.
    pub series: Vec<Arc<dyn Series>>,
    /// Checks of `/ready`.
    pub checks: Vec<Arc<dyn Check>>,
    /// Channels of Postgres that wake it.
    pub channels: Vec<Channel>,
    /// What goes on beside requests and jobs.
    pub background: Vec<Background>,
}

/// Work that begins with the service and goes on until the token is cancelled.
pub type Background = Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send>;

/// What a domain is made with.
#[derive(Debug, Clone)]
pub struct Context {
    /// The database.
    pub db: Db,
    /// Larger request bodies are refused.
    pub max_body_bytes: usize,
    /// A request whose answer begins later is answered with 503.
    pub request_timeout: Duration,
    /// How long running work may go on when the process is asked to stop.
    pub shutdown_grace: Duration,
    /// Takes spans.
    pub tracer: Tracer,
    /// Whether this process runs jobs; otherwise it only serves HTTP.
    pub runs_jobs: bool,
}

/// Why a domain cannot be made; it ends the start.
pub type SetupError = Box<dyn std::error::Error + Send + Sync>;

/// Makes a domain whose settings have been read.
pub type Setup = Box<dyn FnOnce(&Context) -> Result<Domain, SetupError> + Send>;

/// Reads a domain's settings. A service lists these functions, one for each domain.
pub type FromEnv = fn(&mut Reader<'_>) -> Setup;
