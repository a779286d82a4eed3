//! What every service answers, one file each.

pub mod health;
pub mod metrics;
pub mod ready;
