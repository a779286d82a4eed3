//! The ledger: the truth that counters cache.

pub mod columns;
pub mod entry;
pub mod heap;
mod insert;
pub mod load;
mod partition;
mod unrolled;
