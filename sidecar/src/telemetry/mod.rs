//! What operators see: logs and metrics.

pub mod logs;
mod metrics;
mod vendors;

pub use metrics::{LlmCall, Metrics, Outcome, QueueGauges};
pub use vendors::VendorHealth;
