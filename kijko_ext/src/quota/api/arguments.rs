//! Arguments and results that the functions for SQL share.

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::pg_sys;

use crate::guc;
use crate::pg::datum;
use crate::pg::sql_function::{Arguments, Refusal};
use crate::quota::engine;
use crate::quota::meter_key::is_meter;
use crate::verdict::Verdict;

/// The subject and the meter of a call that writes: its first two arguments.
pub fn subject_and_meter<'a>(arguments: Arguments) -> Result<([u8; 16], &'a str), Refusal> {
    engine::check_transaction();
    match (arguments.uuid(0), arguments.text(1)) {
        (Some(subject), Some(meter)) if is_meter(meter) => Ok((subject, meter)),
        _ => Err(Refusal::invalid(
            "a use needs a subject, and a meter in lower case",
        )),
    }
}

/// An amount of at least 1: a negative use would be a gift.
pub fn amount(arguments: Arguments, at: usize) -> Result<i64, Refusal> {
    arguments
        .integer(at)
        .filter(|amount| *amount >= 1)
        .ok_or_else(|| Refusal::invalid("the amount must be at least 1"))
}

/// The attributes of a use: those of the call merged into those of the transaction. The call's values win.
pub fn attributes(own: Option<pg_sys::Datum>) -> Result<Option<pg_sys::Datum>, Refusal> {
    if own.is_some_and(|own| !datum::is_object(own)) {
        return Err(Refusal::invalid("the attributes must be a JSON object"));
    }
    let of_transaction = transaction_attributes()?;
    Ok(match (of_transaction, own) {
        (Some(of_transaction), Some(own)) => Some(datum::json_join(of_transaction, own)),
        (of_transaction, own) => own.or(of_transaction),
    })
}

/// The setting `kijko.usage_attributes`.
fn transaction_attributes() -> Result<Option<pg_sys::Datum>, Refusal> {
    let Some(text) = guc::usage_attributes() else {
        return Ok(None);
    };
    let attributes = datum::json_datum(&text);
    if datum::is_object(attributes) {
        Ok(Some(attributes))
    } else {
        Err(Refusal::invalid(
            "kijko.usage_attributes must be a JSON object",
        ))
    }
}

/// A verdict as SQL's composite value.
pub fn composite(arguments: Arguments, verdict: Verdict) -> pg_sys::Datum {
    // SAFETY: the callers are functions that return kijko.verdict.
    unsafe {
        verdict
            .box_into(&mut FcInfo::from_ptr(arguments.0))
            .sans_lifetime()
    }
}

/// quota_exceeded, with a verdict's numbers and headers.
pub fn refusal(verdict: pg_sys::Datum, amount: i64) -> Refusal {
    let arguments = vec![Some(verdict), Some(pg_sys::Datum::from(amount))];
    Refusal::by("kijko.refuse_use(kijko.verdict,pg_catalog.int8)", arguments)
}
