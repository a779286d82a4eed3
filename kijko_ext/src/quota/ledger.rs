//! The ledger: the truth that counters cache.

pub mod columns;
pub mod entry;
pub mod load;
mod partition;
mod unrolled;
