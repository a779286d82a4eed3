//! Rate limits: the generic cell rate algorithm (gcra.rs) over a set-associative table (table.rs) in shared memory
//! (shmem.rs), for SQL (edge.rs).

pub mod edge;
pub mod gcra;
pub mod shmem;
mod table;
