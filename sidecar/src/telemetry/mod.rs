//! What operators see: logs and metrics.

pub mod logs;
mod metrics;
mod stripe;

pub use metrics::{Metrics, Outcome, QueueGauges};
pub use stripe::StripeMetrics;
