//! The functions that SQL and other modules of the extension call.

mod arguments;
mod consume;
pub mod event_time;
mod gauge;
pub mod metered_usage;
mod quota_status;
mod record_entry;
mod reload;
mod reserve;
