//! Quotas: exact, at the price of a plain insert. A use is reserved in shared memory and written as one row of the
//! ledger by the caller's own transaction; the ledger is the truth, shared memory a cache that loads itself.
//!
//! From the bottom up: the counter (slot.rs, pure), the table of counters in shared memory (table.rs), what a
//! transaction holds of them (transaction.rs), periods (period.rs, pure), which limit holds (policy.rs), the ledger
//! (ledger.rs, append.rs, tail.rs), the decision (charge.rs), and the functions for SQL: consume.rs, many.rs, hold.rs, gauge.rs, book.rs,
//! standing.rs.
//! What is read and reported, and what other services tell (ingest.rs), is SQL beside them.

mod append;
mod book;
mod charge;
mod consume;
pub mod counted;
mod gauge;
mod hold;
mod idempotency;
pub mod ingest;
mod ledger;
mod lock;
mod many;
pub mod period;
pub mod periods;
mod policy;
mod slot;
mod standing;
pub mod table;
mod tail;
mod threshold;
mod transaction;
