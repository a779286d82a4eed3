//! Counters in shared memory: a cache of the ledger that loads itself.

pub mod counter_pins;
mod pin_list;
pub mod slot;
pub mod slot_table;
mod waiter;
