//! Values of Postgres made from Rust's.

use std::ffi::CString;

use pgrx::pg_sys;

pub fn text_datum(text: &str) -> pg_sys::Datum {
    // SAFETY: copies into the current memory context.
    unsafe {
        pg_sys::Datum::from(pg_sys::cstring_to_text_with_len(
            text.as_ptr().cast(),
            text.len() as i32,
        ))
    }
}

pub fn uuid_datum(uuid: &[u8; 16]) -> pg_sys::Datum {
    pg_sys::Datum::from(uuid.as_ptr())
}

/// A uuid copied into the current memory context.
pub fn copied_uuid(uuid: &[u8; 16]) -> pg_sys::Datum {
    // SAFETY: sixteen bytes in the current memory context.
    unsafe {
        let copy: *mut [u8; 16] = pg_sys::palloc(16).cast();
        copy.write(*uuid);
        pg_sys::Datum::from(copy)
    }
}

pub fn uuid_from_text(text: &str) -> pg_sys::Datum {
    input(pg_sys::F_UUID_IN, text)
}

/// A jsonb value. An error when the text is not JSON.
pub fn json_datum(text: &str) -> pg_sys::Datum {
    input(pg_sys::F_JSONB_IN, text)
}

/// Calls the input function of a type.
pub fn input(function: u32, text: &str) -> pg_sys::Datum {
    let text = CString::new(text).unwrap_or_default();
    let argument = pg_sys::Datum::from(text.as_ptr());
    // SAFETY: input functions take a cstring.
    unsafe {
        pg_sys::OidFunctionCall1Coll(pg_sys::Oid::from(function), pg_sys::InvalidOid, argument)
    }
}

/// Merges two objects. The second's value wins for a name that both have.
pub fn json_join(first: pg_sys::Datum, second: pg_sys::Datum) -> pg_sys::Datum {
    let function = pg_sys::Oid::from(pg_sys::F_JSONB_CONCAT);
    // SAFETY: jsonb_concat takes two jsonb values.
    unsafe { pg_sys::OidFunctionCall2Coll(function, pg_sys::InvalidOid, first, second) }
}

/// Whether a jsonb value is an object.
pub fn is_object(json: pg_sys::Datum) -> bool {
    const OBJECT: u32 = 0x2000_0000; // JB_FOBJECT
    // SAFETY: a jsonb datum; the first word of its content is the root container's header.
    unsafe {
        let json = pg_sys::pg_detoast_datum(json.cast_mut_ptr());
        let header = json
            .cast::<u8>()
            .add(pg_sys::VARHDRSZ)
            .cast::<u32>()
            .read_unaligned();
        header & OBJECT != 0
    }
}

/// A bytea copied into the current memory context.
pub fn bytea_datum(bytes: &[u8]) -> pg_sys::Datum {
    // SAFETY: the same header and layout as a text; the bytes need not be one.
    unsafe {
        let copy = pg_sys::cstring_to_text_with_len(bytes.as_ptr().cast(), bytes.len() as i32);
        pg_sys::Datum::from(copy)
    }
}
