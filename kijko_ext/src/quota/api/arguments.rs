//! Arguments and results that the functions for SQL share.

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::pg_sys;

use crate::guc;
use crate::pg::datum;
use crate::pg::sql_function::{Argument, Arguments, Refusal};
use crate::pg::value::Held;
use crate::quota::engine;
use crate::quota::meter_key::is_meter;
use crate::verdict::Verdict;

/// The subject and the meter of a call that writes: its first two arguments.
pub fn subject_and_meter(arguments: Arguments<'_>) -> Result<([u8; 16], &str), Refusal> {
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
/// `own` is a jsonb argument of the call.
pub fn attributes<'call>(
    arguments: Arguments<'call>,
    own: Option<Held<'call>>,
) -> Result<Option<Held<'call>>, Refusal> {
    // SAFETY: a jsonb.
    if own.is_some_and(|own| unsafe { !datum::is_object(own) }) {
        return Err(Refusal::invalid("the attributes must be a JSON object"));
    }
    let of_transaction = transaction_attributes(arguments)?;
    Ok(match (of_transaction, own) {
        // SAFETY: both are jsonb, and the current memory context is the call's.
        (Some(of_transaction), Some(own)) => unsafe { Some(datum::json_join(of_transaction, own)) },
        (of_transaction, own) => own.or(of_transaction),
    })
}

/// The setting `kijko.usage_attributes`.
fn transaction_attributes<'call>(_: Arguments<'call>) -> Result<Option<Held<'call>>, Refusal> {
    let Some(text) = guc::usage_attributes() else {
        return Ok(None);
    };
    // SAFETY: the current memory context is the call's.
    let attributes: Held<'call> = unsafe { datum::json(&text) };
    // SAFETY: a jsonb.
    if unsafe { datum::is_object(attributes) } {
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
            .box_into(&mut FcInfo::from_ptr(arguments.call()))
            .sans_lifetime()
    }
}

/// quota_exceeded, with a verdict's numbers and headers.
pub fn refusal(verdict: pg_sys::Datum, amount: i64) -> Refusal {
    // SAFETY: made by composite().
    let arguments = vec![unsafe { Argument::row(verdict) }, amount.into()];
    Refusal::by("kijko.refuse_use(kijko.verdict,pg_catalog.int8)", arguments)
}
