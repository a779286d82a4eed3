//! Holds: budgets reserved for work whose cost is known only afterwards.
//!
//! A hold is a row, so it outlives its transaction and a crash. Its amount counts as used until it is settled, released or
//! expired. Those are SQL (holds.sql) over `kijko.record_entry`; `kijko.reserve` is api/reserve.rs.

pub mod expire;
pub mod store;
