//! What operators see: logs and metrics.

pub mod logs;
mod metrics;
mod sparse;
mod stripe;
mod vendors;

pub use metrics::{LlmCall, Metrics, Outcome, QueueGauges};
pub(crate) use sparse::Sparse;
pub use stripe::StripeMetrics;
pub use vendors::VendorHealth;
