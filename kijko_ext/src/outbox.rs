//! The outbox: requests to other people's servers that a transaction stores and a worker sends after its commit.
//!
//! 1. `kijko.http_enqueue()` checks a request (`request.rs`) and inserts it; the commit wakes the worker (`wakeup.rs`).
//! 2. The worker (`worker.rs`) is the only one that sends, so a request needs no lease: what it is sending it knows by itself, and
//!    after a crash everything that has not ended is sent again, with the same id.
//! 3. It reads the due requests of each lane (`reader.rs`, `unread.rs`, `store.rs`), and `schedule.rs` chooses the next ones: by
//!    priority, in turn between lanes, within the shares of an origin and of an organization. A lane that fails gets pauses of
//!    its own.
//! 4. `client.rs` sends them, on a thread that touches nothing of Postgres.
//! 5. The worker records the outcomes (`retry.rs` decides), and gives way to the next request of a key.

mod client;
mod issuers;
mod outcome;
mod reader;
pub mod request;
mod retry;
mod schedule;
mod sign;
mod store;
mod unread;
mod wakeup;
pub mod worker;

pub use wakeup::{SHMEM_REGION, stats, want_issuer};
