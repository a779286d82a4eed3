//! Whether the text of a jsonb value is short enough, without making that text: `1e131071` takes ten bytes in storage.
//!
//! The value is walked as it is stored (layout.rs), which takes one to two microseconds for a message of some hundred bytes.

use pgrx::prelude::*;

use crate::pg::sql_function::{Answer, Arguments, sql_function};

mod layout;

sql_function!(kijko_json_fits, pg_finfo_kijko_json_fits, json_fits);

fn json_fits(arguments: Arguments) -> Answer {
    let (Some(given), Some(max_bytes)) = (arguments.held(0), arguments.integer(1)) else {
        return Ok(arguments.null());
    };
    let max_bytes = usize::try_from(max_bytes as i32).unwrap_or(0);
    // SAFETY: declared as jsonb; what was compressed or short is copied into the call's memory, with a header of four bytes.
    let stored = unsafe {
        let whole = pg_sys::pg_detoast_datum(pg_sys::Datum::from(given.datum()).cast_mut_ptr());
        pgrx::varlena::varlena_to_byte_slice(whole)
    };
    let fits = layout::text_bytes(stored, max_bytes).is_some();
    Ok(pg_sys::Datum::from(fits))
}
