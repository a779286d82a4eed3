//! Reloads what is cached: counters by `kijko.reload_counters`, and limits by the triggers of the tables that backends cache.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::pg::sql_function::{Answer, Arguments, sql_function};
use crate::pg::{query, trigger};
use crate::quota::counter::counter_pins;
use crate::quota::counter::slot_table::CounterKey;

sql_function!(
    kijko_reload_counters,
    pg_finfo_kijko_reload_counters,
    reload_counters
);
sql_function!(
    kijko_limits_changed,
    pg_finfo_kijko_limits_changed,
    limits_changed
);

/// `kijko.reload_counters(subject)`; null means every subject. Takes effect at commit: only then do other transactions see
/// this one's changes of the tables.
fn reload_counters(arguments: Arguments) -> Answer {
    let ledger = query::table(c"ledger");
    counter_pins::reload_at_commit(
        arguments
            .uuid(0)
            .map(|subject| CounterKey::subject(ledger, &subject)),
    );
    // Limits and calendars may have been written with triggers disabled. A standby sends no invalidations; it receives them.
    // SAFETY: reads a variable; registers a message for the commit.
    unsafe {
        if !pg_sys::RecoveryInProgress() {
            pg_sys::CacheInvalidateRelcacheByRelid(query::table(c"limit_changes"));
        }
    }
    Ok(arguments.null())
}

/// The trigger on tables that backends cache. This backend's cache is invalidated at once, that of others at commit.
fn limits_changed(arguments: Arguments) -> Answer {
    // SAFETY: called as a trigger, whose context is its data.
    unsafe {
        let data = trigger::data(arguments, "kijko.limits_changed");
        let trigger = (*data).tg_trigger;
        match (*trigger).tgnargs {
            0 => pg_sys::CacheInvalidateRelcache((*data).tg_relation),
            _ => pg_sys::CacheInvalidateRelcacheByRelid(query::table(CStr::from_ptr(
                *(*trigger).tgargs,
            ))),
        }
    }
    // A statement trigger returns a null pointer without the null flag.
    Ok(pg_sys::Datum::null())
}
