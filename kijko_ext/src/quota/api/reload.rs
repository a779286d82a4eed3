//! `kijko.reload_counters`: has every backend read again what it caches.

use pgrx::pg_sys;

use crate::pg::sql_function::{Answer, Arguments, sql_function};
use crate::pg::{cache_stamp, query};
use crate::quota::counter::counter_pins;
use crate::quota::counter::slot_table::Stale;

sql_function!(
    kijko_reload_counters,
    pg_finfo_kijko_reload_counters,
    reload_counters
);

/// `kijko.reload_counters(subject)`; null means every subject. Takes effect at commit: only then do other transactions see
/// this one's changes of the tables.
fn reload_counters(arguments: Arguments) -> Answer {
    let ledger = query::table(c"ledger");
    counter_pins::reload_at_commit(Stale::new(ledger, arguments.uuid(0).as_ref()));
    // Limits and calendars may have been written with triggers disabled. A standby sends no invalidations; it receives them.
    // SAFETY: reads a variable.
    if unsafe { !pg_sys::RecoveryInProgress() } {
        cache_stamp::everything_changed();
    }
    Ok(arguments.null())
}
