//! Datums made from Rust's values. All of them are copies in the current memory context, which in the body of an SQL function
//! is its call's, except those of `of`.

use std::ffi::CString;

use pgrx::pg_sys;

use super::value::{Held, Value};

/// The datum of a value; None for null. A uuid is not copied.
///
/// # Safety
/// The datum is used no longer than the value lives, and only while the current memory context does.
pub unsafe fn of(value: Value) -> Option<pg_sys::Datum> {
    // SAFETY: as the caller says.
    unsafe { of_by(value, varlena) }
}

unsafe fn of_by(value: Value, varlena: unsafe fn(&[u8]) -> pg_sys::Datum) -> Option<pg_sys::Datum> {
    match value {
        Value::Null => None,
        Value::Integer(integer) => Some(pg_sys::Datum::from(integer)),
        Value::Uuid(uuid) => Some(pg_sys::Datum::from(uuid.as_ptr())),
        // SAFETY: as the caller says.
        Value::Text(text) => Some(unsafe { varlena(text.as_bytes()) }),
        Value::Bytes(bytes) => Some(unsafe { varlena(bytes) }),
        Value::Held(held) => Some(pg_sys::Datum::from(held.datum())),
    }
}

/// The datums of a row's columns, and which of them are null.
///
/// # Safety
/// As for `of`. Called within a guard: an error passes this frame, which owns nothing.
pub unsafe fn of_row<const N: usize>(columns: &[Value; N]) -> ([pg_sys::Datum; N], [bool; N]) {
    // SAFETY: as the caller says.
    let datums = columns.map(|column| unsafe { of_by(column, unguarded_varlena) });
    (
        datums.map(|datum| datum.unwrap_or(pg_sys::Datum::null())),
        datums.map(|datum| datum.is_none()),
    )
}

/// A guard around each text would cost more than to copy it.
unsafe fn unguarded_varlena(bytes: &[u8]) -> pg_sys::Datum {
    unsafe extern "C-unwind" {
        fn cstring_to_text_with_len(
            bytes: *const std::ffi::c_char,
            length: i32,
        ) -> *mut pg_sys::text;
    }
    // SAFETY: copies into the current memory context; the bytes need not be text.
    unsafe {
        let copy = cstring_to_text_with_len(bytes.as_ptr().cast(), bytes.len() as i32);
        pg_sys::Datum::from(copy)
    }
}

pub fn text_datum(text: &str) -> pg_sys::Datum {
    varlena(text.as_bytes())
}

/// A text and a bytea have the same header and layout.
fn varlena(bytes: &[u8]) -> pg_sys::Datum {
    // SAFETY: copies into the current memory context; the bytes need not be text.
    unsafe {
        let copy = pg_sys::cstring_to_text_with_len(bytes.as_ptr().cast(), bytes.len() as i32);
        pg_sys::Datum::from(copy)
    }
}

pub fn tid_datum(tid: pg_sys::ItemPointerData) -> pg_sys::Datum {
    // SAFETY: as many bytes as are written, in the current memory context.
    unsafe {
        let copy: *mut pg_sys::ItemPointerData = pg_sys::palloc(size_of_val(&tid)).cast();
        copy.write(tid);
        pg_sys::Datum::from(copy)
    }
}

/// An array; null for none.
pub fn tids_datum(tids: &[pg_sys::ItemPointerData]) -> Option<pg_sys::Datum> {
    let datums = tids
        .iter()
        .map(|tid| pg_sys::Datum::from(std::ptr::from_ref(tid)))
        .collect();
    let size = size_of::<pg_sys::ItemPointerData>() as i32;
    // SAFETY: as Postgres declares the type.
    (!tids.is_empty()).then(|| unsafe {
        array(
            datums,
            pg_sys::TIDOID,
            size,
            false,
            pg_sys::TYPALIGN_SHORT as _,
        )
    })
}

pub fn uuids_datum(uuids: &[[u8; 16]]) -> pg_sys::Datum {
    let datums = uuids
        .iter()
        .map(|uuid| pg_sys::Datum::from(uuid.as_ptr()))
        .collect();
    // SAFETY: as Postgres declares the type.
    unsafe {
        array(
            datums,
            pg_sys::UUIDOID,
            16,
            false,
            pg_sys::TYPALIGN_CHAR as _,
        )
    }
}

/// An array of a type that is an integer of eight bytes: bigint, or timestamptz in Postgres microseconds.
pub fn integers_datum(integers: &[i64], of: pg_sys::Oid) -> pg_sys::Datum {
    let datums = integers.iter().map(|it| pg_sys::Datum::from(*it)).collect();
    // SAFETY: as Postgres declares these types.
    unsafe { array(datums, of, 8, true, pg_sys::TYPALIGN_DOUBLE as _) }
}

/// Copies the elements into the current memory context.
///
/// # Safety
/// The type has this size and alignment, and is passed by value or not.
unsafe fn array(
    mut datums: Vec<pg_sys::Datum>,
    of: pg_sys::Oid,
    size: i32,
    by_value: bool,
    alignment: std::ffi::c_char,
) -> pg_sys::Datum {
    // SAFETY: as the caller says.
    unsafe {
        let array = pg_sys::construct_array(
            datums.as_mut_ptr(),
            datums.len() as i32,
            of,
            size,
            by_value,
            alignment,
        );
        pg_sys::Datum::from(array)
    }
}

pub fn uuid_datum(uuid: &[u8; 16]) -> pg_sys::Datum {
    // SAFETY: sixteen bytes in the current memory context.
    unsafe {
        let copy: *mut [u8; 16] = pg_sys::palloc(16).cast();
        copy.write(*uuid);
        pg_sys::Datum::from(copy)
    }
}

/// A jsonb value. An error when the text is not JSON.
///
/// # Safety
/// The lifetime ends before the current memory context.
pub unsafe fn json<'a>(text: &str) -> Held<'a> {
    // SAFETY: a copy in the current memory context.
    unsafe { Held::new(input(pg_sys::F_JSONB_IN, text).value()) }
}

/// Calls the input function of a type.
pub fn input(function: u32, text: &str) -> pg_sys::Datum {
    let text = CString::new(text).unwrap_or_default();
    let argument = pg_sys::Datum::from(text.as_ptr());
    // SAFETY: input functions take a cstring, and keep nothing of it.
    unsafe {
        pg_sys::OidFunctionCall1Coll(pg_sys::Oid::from(function), pg_sys::InvalidOid, argument)
    }
}

/// Merges two objects. The second's value wins for a name that both have.
///
/// # Safety
/// Both are jsonb. The lifetime ends before the current memory context.
pub unsafe fn json_join<'a>(first: Held<'a>, second: Held<'a>) -> Held<'a> {
    let function = pg_sys::Oid::from(pg_sys::F_JSONB_CONCAT);
    let [first, second] = [first, second].map(|json| pg_sys::Datum::from(json.datum()));
    // SAFETY: jsonb_concat takes two jsonb values. Its result is a copy, or one of them.
    unsafe {
        let joined = pg_sys::OidFunctionCall2Coll(function, pg_sys::InvalidOid, first, second);
        Held::new(joined.value())
    }
}

/// Whether a jsonb value is an object.
///
/// # Safety
/// It is a jsonb.
pub unsafe fn is_object(json: Held) -> bool {
    const OBJECT: u32 = 0x2000_0000; // JB_FOBJECT
    // SAFETY: the first word of its content is the root container's header.
    unsafe {
        let json = pg_sys::Datum::from(json.datum());
        let json = pg_sys::pg_detoast_datum(json.cast_mut_ptr());
        let header = json
            .cast::<u8>()
            .add(pg_sys::VARHDRSZ)
            .cast::<u32>()
            .read_unaligned();
        header & OBJECT != 0
    }
}
