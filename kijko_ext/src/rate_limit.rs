//! Rate limits. gcra.rs is the generic cell rate algorithm, time_budget.rs a budget of time by the same clock: all pure.
//! limiter.rs is the table in shared memory, slot.rs one of its slots, sql.rs the functions of SQL.

pub mod gcra;
pub mod limiter;
mod slot;
pub mod sql;
pub mod time_budget;
