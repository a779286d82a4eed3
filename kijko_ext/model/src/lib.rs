//! Every interleaving of a few transactions over one counter. The counter is the extension's own source; only its
//! atomic word and the lock around it are loom's. The ledger is a plain sum behind a mutex, as good as a snapshot.
//! `value` is the extension's own source too: its examples prove which uses do not compile.

#[path = "../../src/pg/value.rs"]
pub mod value;

#[cfg(test)]
#[path = "../../src/quota/counter/slot.rs"]
#[allow(dead_code)] // statistics and expiry are not modelled
mod slot;

#[cfg(test)]
mod model;
