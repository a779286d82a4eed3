//! Moves counts to the ledger, in one transaction a round, and in none while nothing was counted. For the worker of a database.

use std::cell::RefCell;

use pgrx::prelude::*;

use super::METER;
use super::pending::{self, PendingCount};
use crate::quota::api::metered_usage;
use crate::worker::{attempt, extension_lock};

/// Moves the counts to the ledger. Returns false and puts them back when that failed.
pub fn flush() -> bool {
    let counts = pending::counts();
    if counts.is_empty() {
        return true;
    }
    let taken = RefCell::new(Vec::with_capacity(counts.len()));
    let Err(error) = attempt(|| record(&counts, &taken)) else {
        return true;
    };
    let lost = taken
        .borrow()
        .iter()
        .filter(|count| !pending::restore(count))
        .count();
    pending::look_again();
    pending::count_failure();
    log!("kijko request counter: {} ({lost} counts lost)", error);
    false
}

fn record(counts: &[PendingCount], taken: &RefCell<Vec<PendingCount>>) {
    let is_installed = extension_lock::is_installed() && metered_usage::is_installed();
    for count in counts {
        let take = || {
            pending::mark_recorded(count);
            taken.borrow_mut().push(*count);
        };
        // An extension that was dropped has no ledger: what was counted for it is worth nothing.
        if !is_installed {
            pending::mark_recorded(count);
        } else if metered_usage::record(&count.subject, METER, count.amount as i64, take).is_err() {
            pending::look_again(); // no room for its counter among those of running transactions
        }
    }
}
