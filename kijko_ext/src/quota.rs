//! Quotas: exact, at the cost of one plain insert for each use.
//!
//! 1. `policy` finds the limit and the period of a subject's meter (cached in each backend).
//! 2. `counter` reserves the amount in shared memory, or refuses.
//! 3. `ledger` writes the use as one row, in the caller's transaction.
//! 4. At commit or abort, `counter` releases what must not count any more.
//!
//! The ledger is the truth. A counter that is not in shared memory is loaded from it. `hold` reserves budgets across
//! transactions. `engine` makes the decision of a use from these; `api` are the functions for SQL and for other modules.
//! Each module uses only those before it in this order: counter, policy, ledger, hold, engine, api.

pub mod api;
pub mod counter;
mod engine;
mod hold;
mod idempotency;
mod ledger;
mod lock;
mod meter_key;
pub mod policy;
mod threshold;
