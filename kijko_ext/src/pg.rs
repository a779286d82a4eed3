//! What talks to Postgres' C: everything in here is free of Kijko's own concerns, and everything else of the extension
//! may use it.

pub mod aggregate;
pub mod cache_stamp;
pub mod composite;
pub mod datum;
pub mod insert;
pub mod lwlock;
pub mod major;
pub mod malloc_tuning;
pub mod plain_calls;
pub mod process;
pub mod query;
pub mod random;
pub mod scan;
pub mod setting;
pub mod sql_function;
pub mod subtransaction;
pub mod trigger;
pub mod value;
pub mod xact;
