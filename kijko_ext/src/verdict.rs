//! The result of every limit: SQL's composite type `kijko.verdict`.

use std::borrow::Cow;

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::prelude::*;

use crate::pg::composite;
use crate::pg::value::Value;

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
    pub meter: Option<Cow<'a, str>>,
    pub used: Option<i64>,
    pub limit: Option<i64>,
    pub remaining: Option<i64>,
    /// Postgres time, microseconds.
    pub reset_at: Option<i64>,
    pub retry_after: Option<i32>,
}

impl Verdict<'_> {
    pub fn into_owned(self) -> Verdict<'static> {
        Verdict {
            meter: self.meter.map(|meter| meter.into_owned().into()),
            ..Verdict {
                meter: None,
                ..self
            }
        }
    }
}

unsafe impl BoxRet for Verdict<'_> {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        let columns: [Value; 8] = [
            self.allowed.into(),
            self.code.into(),
            self.meter.as_deref().into(),
            self.used.into(),
            self.limit.into(),
            self.remaining.into(),
            self.reset_at.into(),
            self.retry_after.into(),
        ];
        // SAFETY: the function is declared to return kijko.verdict, whose columns have these types.
        unsafe {
            let row = composite::form(fcinfo.as_mut_ptr(), &columns);
            fcinfo.return_raw_datum(row)
        }
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
