//! Background workers: of each kind one for each database of kijko.databases, and the launcher that starts them. Another
//! worker, the outbox's, is with its module.

mod database_lock;
pub mod extension_lock;
pub mod figures;
pub mod launcher;
mod meter;
pub mod process;
pub mod tenure;

pub use process::attempt;
