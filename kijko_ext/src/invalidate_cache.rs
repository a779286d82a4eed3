//! The trigger on tables that backends cache: `kijko.invalidate_cache(kind [, column])`. For each row; also for rows that a
//! logical subscription applies, which fires no statement triggers. `column` has the subject whose group is invalidated.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::pg::cache_stamp::{self, CacheKind};
use crate::pg::sql_function::{Answer, Arguments, sql_function};
use crate::pg::trigger;

sql_function!(
    kijko_invalidate_cache,
    pg_finfo_kijko_invalidate_cache,
    invalidate_cache
);

fn invalidate_cache(arguments: Arguments) -> Answer {
    // SAFETY: called as a trigger, whose context is its data.
    unsafe {
        let data = trigger::data(arguments, "kijko.invalidate_cache");
        let trigger = (*data).tg_trigger;
        let argument =
            |at: usize| (at < (*trigger).tgnargs as usize).then(|| *(*trigger).tgargs.add(at));
        let kind = argument(0)
            .and_then(|name| CStr::from_ptr(name).to_str().ok())
            .and_then(CacheKind::parse);
        let Some(kind) = kind else {
            pgrx::error!("kijko.invalidate_cache: the first argument names no cache");
        };
        // A statement that truncates.
        if (*data).tg_event & pg_sys::TRIGGER_EVENT_ROW == 0 {
            cache_stamp::everything_changed();
            return Ok(pg_sys::Datum::null());
        }
        let Some(column) = argument(1) else {
            cache_stamp::changed(kind.whole());
            return Ok(pg_sys::Datum::null());
        };
        for row in [(*data).tg_trigtuple, (*data).tg_newtuple] {
            if !row.is_null() {
                match subject(row, (*(*data).tg_relation).rd_att, column) {
                    Some(subject) => cache_stamp::changed(kind.of(&subject)),
                    None => cache_stamp::everything_changed(),
                }
            }
        }
    }
    Ok(pg_sys::Datum::null()) // the result of an AFTER trigger is ignored
}

/// None for null. An error when the table has no such column, or of another type than uuid.
unsafe fn subject(
    row: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
    column: *const std::ffi::c_char,
) -> Option<[u8; 16]> {
    let mut null = false;
    // SAFETY: the row and its descriptor belong together; a uuid is sixteen bytes.
    unsafe {
        let number = pg_sys::SPI_fnumber(descriptor, column);
        if number <= 0 || pg_sys::SPI_gettypeid(descriptor, number) != pg_sys::UUIDOID {
            pgrx::error!(
                "kijko.invalidate_cache: the second argument names no column of type uuid"
            );
        }
        let value = pg_sys::SPI_getbinval(row, descriptor, number, &mut null);
        (!null).then(|| value.cast_mut_ptr::<[u8; 16]>().read())
    }
}
