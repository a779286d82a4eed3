//! What operators see: logs, the canonical line of a request or job, metrics, readiness, spans, reports of errors.

pub mod backlog;
pub mod canonical;
pub mod capture;
pub mod logs;
pub mod mask;
pub mod metrics;
pub mod process;
pub mod readiness;
pub mod sentry;
pub mod throttle;
pub mod traces;
