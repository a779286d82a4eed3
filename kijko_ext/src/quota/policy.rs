//! Which limit applies to a subject's meter, and in which period.

pub mod limit_cache;
pub mod period;
pub mod period_sql;
