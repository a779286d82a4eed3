//! What every service of Kijko needs, and nothing of any domain.
//!
//! A service reads its [`Settings`] from the environment, lists its [`Domain`]s and calls [`run`]. The modules, from the ones
//! that need nothing to the ones that need the others:
//!
//! - [`service`]: which program it is; [`config`]: the environment, all problems at once; [`secret`], [`backoff`], [`shutdown`].
//! - [`telemetry`]: logs, the canonical line of a request or job, metrics, readiness.
//! - [`db`]: the pool, the listener, cancellation, TLS. Every statement is one call of one function.
//! - [`error`]: the errors that an HTTP client gets.
//! - [`certificate`]: when the one that a server shows ends.
//! - [`outbound`]: a guarded HTTP client for addresses that are not ours.
//! - [`jobs`]: the worker, its leases, and the registry of kinds of jobs.
//! - [`http`]: two routers by audience, public and operators.
//! - [`domain`]: the shape of a domain; [`settings`]: the environment of all parts; [`runtime`]: putting the parts together and
//!   taking them down in order; [`program`]: the main function.
#![warn(missing_docs)]

pub mod backoff;
pub mod certificate;
pub mod config;
pub mod db;
pub mod domain;
pub mod error;
pub mod http;
pub mod jobs;
pub mod outbound;
pub mod program;
pub mod runtime;
pub mod secret;
pub mod service;
pub mod settings;
pub mod shutdown;
mod start;
pub mod telemetry;

pub use domain::{Context, Domain, FromEnv, Setup, SetupError};
pub use runtime::{StartError, run};
pub use service::Service;
pub use settings::Settings;
