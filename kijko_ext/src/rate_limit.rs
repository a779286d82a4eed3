//! Rate limits. gcra.rs is the generic cell rate algorithm, time_budget.rs a budget of time by the same clock, slots.rs the
//! choice of a slot in a full set: all pure. limiter.rs is the table in shared memory, sql.rs the functions of SQL.

pub mod gcra;
pub mod limiter;
mod slots;
pub mod sql;
pub mod time_budget;
