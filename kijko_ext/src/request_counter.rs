//! Counts requests, also those that are refused, fail or run READ ONLY. They are counted in shared memory (pending.rs), and a
//! background worker moves the counts to the ledger (flush.rs) every kijko.request_counter_flush_interval. A crash loses what
//! was counted since the last time.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::guc;

pub mod flush;
pub mod pending;

/// The meter that requests use.
pub const METER: &str = "api_requests";

thread_local! {
    /// Counts that did not fit into the table. They wait for this backend's next request.
    static WAITING: RefCell<HashMap<[u8; 16], u64>> = RefCell::default();
}

/// Maximum number of subjects whose counts wait in a backend. Those of further ones are lost, which kijko.stats() counts.
const MAX_WAITING: usize = 4_096;

/// Counts a request of a subject. Returns how many of its requests are not in the ledger yet, or None in a database that
/// has no worker.
pub fn count(subject: &[u8; 16]) -> Option<u64> {
    if !guc::databases::is_listed() {
        return None;
    }
    WAITING.with_borrow_mut(|waiting| {
        waiting.retain(|subject, count| pending::add(subject, *count).is_none());
        let pending = pending::add(subject, 1);
        if pending.is_none() {
            match waiting.len() < MAX_WAITING || waiting.contains_key(subject) {
                true => *waiting.entry(*subject).or_default() += 1,
                false => pending::count_lost(),
            }
        }
        pending
    })
}
