//! What operators see: logs and metrics.

pub mod logs;
mod metrics;

pub use metrics::{Metrics, Outcome, QueueGauges};
