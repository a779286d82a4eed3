//! Background workers: one for each database of kijko.databases, and the launcher that starts them.

mod database_lock;
pub mod figures;
pub mod launcher;
mod process;
mod serve;

pub use process::attempt;
