//! The answer of every limit: SQL's composite type `kijko.verdict`.

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::prelude::*;

extension_sql!(
    r#"
create type kijko.verdict as (
    allowed boolean,
    code text,
    meter text,
    used bigint,
    "limit" bigint,
    remaining bigint,
    reset_at timestamptz,
    retry_after integer
);
comment on type kijko.verdict is 'The answer of a limit.';
comment on column kijko.verdict.allowed is 'Whether to go on.';
comment on column kijko.verdict.code is 'quota_exceeded or rate_limited; null within the limit. Allowed with a code: over a limit that flags or bills instead of refusing.';
comment on column kijko.verdict.meter is 'The meter, or the key of a rate limit.';
comment on column kijko.verdict.used is 'Used in this period, this call included if it was allowed.';
comment on column kijko.verdict."limit" is 'The limit; null is unlimited.';
comment on column kijko.verdict.remaining is 'What is left of the limit; null is unlimited.';
comment on column kijko.verdict.reset_at is 'When the period ends, or when a rate limit is full again; null for a lifetime.';
comment on column kijko.verdict.retry_after is 'After how many seconds, rounded up, the same call could be allowed; null when it is allowed, or never will be.';
"#,
    name = "verdict",
    requires = ["errors"]
);

#[derive(Debug, Default)]
pub struct Verdict<'a> {
    pub allowed: bool,
    pub code: Option<&'static str>,
    pub meter: Option<&'a str>,
    pub used: Option<i64>,
    pub limit: Option<i64>,
    pub remaining: Option<i64>,
    /// Postgres time, microseconds.
    pub reset_at: Option<i64>,
    pub retry_after: Option<i32>,
}

unsafe impl BoxRet for Verdict<'_> {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        let column = |datum: Option<pg_sys::Datum>| {
            (datum.unwrap_or(pg_sys::Datum::null()), datum.is_none())
        };
        let columns = [
            column(self.allowed.into_datum()),
            column(self.code.into_datum()),
            column(self.meter.into_datum()),
            column(self.used.into_datum()),
            column(self.limit.into_datum()),
            column(self.remaining.into_datum()),
            column(self.reset_at.map(pg_sys::Datum::from)),
            column(self.retry_after.into_datum()),
        ];
        let mut values = columns.map(|(value, _)| value);
        let mut nulls = columns.map(|(_, null)| null);
        // SAFETY: the descriptor is that of the function's declared result, with as many columns as there are values.
        unsafe {
            let descriptor = result_descriptor(fcinfo);
            let tuple =
                pg_sys::heap_form_tuple(descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            fcinfo.return_raw_datum(pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data))
        }
    }
}

/// The descriptor of the result type, from the backend's cache of types: making one anew for each execution cost more than
/// the whole limiter. Nothing but an allocation happens before it is used, so it needs no pin.
unsafe fn result_descriptor(fcinfo: &mut FcInfo<'_>) -> pg_sys::TupleDesc {
    unsafe {
        let function = (*fcinfo.as_mut_ptr()).flinfo;
        let mut verdict = pg_sys::get_fn_expr_rettype(function);
        if verdict == pg_sys::InvalidOid {
            verdict = pg_sys::get_func_rettype((*function).fn_oid); // called without an expression
        }
        let wanted = pg_sys::TYPECACHE_TUPDESC as i32;
        let descriptor = (*pg_sys::lookup_type_cache(verdict, wanted)).tupDesc;
        if descriptor.is_null() || (*descriptor).natts != 8 {
            error!("kijko.verdict is not the type this library was built for");
        }
        descriptor
    }
}

unsafe impl SqlTranslatable for Verdict<'_> {
    const TYPE_IDENT: &'static str = "kijko::verdict::Verdict";
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> =
        Err(ArgumentError::NotValidAsArgument("kijko.verdict"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("kijko.verdict")));
}
