//! Requests are counted in shared memory (table.rs), whatever becomes of them and whether they may write or not, and
//! moved to the ledger by a background worker (worker.rs) every kijko.meter_flush_interval. What was counted since the
//! last time is lost in a crash, and only then.

use std::cell::{Cell, RefCell};
use std::ffi::CStr;

use pgrx::prelude::*;

use crate::guc;

pub mod table;
pub mod worker;

/// What a request is a use of.
pub const METER: &str = "api_requests";

thread_local! {
    static METERED: Cell<Option<bool>> = const { Cell::new(None) };
    /// Counts that found no room in the table. They wait here for this backend's next request.
    static WAITING: RefCell<Vec<[u8; 16]>> = const { RefCell::new(Vec::new()) };
}

/// Counts a request of a subject, and says how many of it are counted and not yet in the ledger. None in a database that
/// the worker does not look after.
pub fn count(subject: &[u8; 16]) -> Option<u64> {
    if !is_metered() {
        return None;
    }
    WAITING.with_borrow_mut(|waiting| {
        waiting.retain(|subject| table::add(subject, 1).is_none());
        let pending = table::add(subject, 1);
        if pending.is_none() {
            waiting.push(*subject);
        }
        pending
    })
}

/// One worker looks after one database.
fn is_metered() -> bool {
    METERED.get().unwrap_or_else(|| {
        // SAFETY: a copy of the name, or null in the middle of a DROP DATABASE.
        let name = unsafe {
            let name = pg_sys::get_database_name(pg_sys::MyDatabaseId);
            (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
        };
        let metered = name.is_some_and(|name| name == guc::database());
        METERED.set(Some(metered));
        metered
    })
}
