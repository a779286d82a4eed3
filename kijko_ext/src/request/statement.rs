//! Restrictions on a request's statement. PostgREST makes one statement of each request. It is checked after Postgres has
//! analysed it and before it is planned, because the parse tree is the same for every spelling of a request. Refused are:
//!
//! - plans: EXPLAIN shows row counts, including those of other tenants;
//! - more than `MAX_LEVELS` resources embedded in each other, or `MAX_EMBEDS` in all: rows multiply with every level;
//! - casts to types whose input reads the catalogs (`name::regrole` reveals which roles exist);
//! - system columns: the tables are shared, and `ctid` reveals their size, `xmin` how much the cluster writes.
//!
//! Statements inside functions belong to the domain and are not checked, nor is PostgREST's description of the API, which it
//! reads from the catalogs. A prepared statement was checked when it was prepared: the rules do not depend on the caller.

use std::ffi::{CStr, c_void};

use pgrx::prelude::*;
use pgrx::{is_a, pg_sys};

use crate::pg::process::ProcessCell;
use crate::pg::setting;
use crate::pg::sql_function::{self, Refusal};
use crate::trust;

/// Levels of embedded resources below the requested one.
const MAX_LEVELS: u32 = 3;
const MAX_EMBEDS: u32 = 12;

/// The aliases of PostgREST's lateral subqueries that embed nothing: they unpack a body or call a function.
const NON_EMBED_ALIASES: [&CStr; 4] = [
    c"pgrst_uniform_json",
    c"pgrst_json_defs",
    c"pgrst_body",
    c"pgrst_call",
];

/// Built-in types that a request may cast to; user-defined types are always allowed. The others read the catalogs, contain
/// types that do (every system catalog is a type, too), or are of no use here.
const CASTABLE: [pg_sys::Oid; 34] = [
    pg_sys::BOOLOID,
    pg_sys::BYTEAOID,
    pg_sys::NAMEOID,
    pg_sys::INT2OID,
    pg_sys::INT4OID,
    pg_sys::INT8OID,
    pg_sys::FLOAT4OID,
    pg_sys::FLOAT8OID,
    pg_sys::NUMERICOID,
    pg_sys::MONEYOID,
    pg_sys::TEXTOID,
    pg_sys::BPCHAROID,
    pg_sys::VARCHAROID,
    pg_sys::CHAROID,
    pg_sys::JSONOID,
    pg_sys::JSONBOID,
    pg_sys::UUIDOID,
    pg_sys::DATEOID,
    pg_sys::TIMEOID,
    pg_sys::TIMETZOID,
    pg_sys::TIMESTAMPOID,
    pg_sys::TIMESTAMPTZOID,
    pg_sys::INTERVALOID,
    pg_sys::BITOID,
    pg_sys::VARBITOID,
    pg_sys::INETOID,
    pg_sys::CIDROID,
    pg_sys::MACADDROID,
    pg_sys::MACADDR8OID,
    pg_sys::INT4RANGEOID,
    pg_sys::INT8RANGEOID,
    pg_sys::NUMRANGEOID,
    pg_sys::DATERANGEOID,
    pg_sys::TSTZRANGEOID,
];

/// Types that no value of a request may have, cast or not: their input and output read the catalogs.
const CATALOG_TYPES: [pg_sys::Oid; 11] = [
    pg_sys::REGPROCOID,
    pg_sys::REGPROCEDUREOID,
    pg_sys::REGOPEROID,
    pg_sys::REGOPERATOROID,
    pg_sys::REGCLASSOID,
    pg_sys::REGTYPEOID,
    pg_sys::REGROLEOID,
    pg_sys::REGNAMESPACEOID,
    pg_sys::REGCOLLATIONOID,
    pg_sys::REGDICTIONARYOID,
    pg_sys::ACLITEMOID,
];

static PREVIOUS: ProcessCell<pg_sys::post_parse_analyze_hook_type> = ProcessCell::new(None);

pub fn init() {
    // SAFETY: while the postmaster starts; a backend has one thread.
    unsafe {
        PREVIOUS.set(pg_sys::post_parse_analyze_hook);
        pg_sys::post_parse_analyze_hook = Some(after_analysis);
    }
}

/// Owns nothing that an error would leave behind.
unsafe extern "C-unwind" fn after_analysis(
    state: *mut pg_sys::ParseState,
    query: *mut pg_sys::Query,
    jumble: *mut pg_sys::JumbleState,
) {
    // SAFETY: called by Postgres, as the hooks before it.
    unsafe {
        if let Some(previous) = PREVIOUS.get() {
            previous(state, query, jumble);
        }
        // What ends a failed transaction reads no catalog.
        if is_clients(state) && !pg_sys::IsAbortedTransactionBlockState() {
            sql_function::raise_refusal(|| {
                if trust::is_request() {
                    check(query)
                } else {
                    Ok(())
                }
            });
        }
    }
}

/// Whether the client sent this statement: those inside functions have a source text of their own.
unsafe fn is_clients(state: *const pg_sys::ParseState) -> bool {
    unsafe {
        let text = (*state).p_sourcetext;
        !text.is_null() && std::ptr::eq(text, pg_sys::debug_query_string)
    }
}

/// Whether PostgREST describes its API (OpenAPI): it reads the catalogs then, with nothing of the request but its role.
fn describes_the_api() -> bool {
    setting::PATH.with(|path| path == b"/").unwrap_or(false)
}

unsafe fn check(query: *mut pg_sys::Query) -> Result<(), Refusal> {
    // SAFETY: analysed by Postgres.
    unsafe {
        if is_a((*query).utilityStmt, pg_sys::NodeTag::T_ExplainStmt) {
            return Err(refusal("plans are not available", None));
        }
        if describes_the_api() {
            return Ok(());
        }
        let mut found = Found::default();
        visit(query.cast(), (&raw mut found).cast());
        if found.embeds > MAX_EMBEDS || found.deepest > MAX_LEVELS {
            let details = format!(
                "{} embedded resources in {} levels; at most {MAX_EMBEDS} in {MAX_LEVELS}",
                found.embeds, found.deepest
            );
            return Err(refusal(
                &details,
                Some("Ask for less, or in several requests."),
            ));
        }
        if found.system_column {
            return Err(refusal("system columns are not available", None));
        }
        match found.refused_type {
            Some(refused) => Err(refusal(
                &format!("values of type {} are not available", type_name(refused)),
                None,
            )),
            None => Ok(()),
        }
    }
}

fn refusal(details: &str, hint: Option<&str>) -> Refusal {
    Refusal::new("bad_request", details, hint)
}

unsafe fn type_name(oid: pg_sys::Oid) -> String {
    // SAFETY: a palloc'd string.
    unsafe {
        CStr::from_ptr(pg_sys::format_type_be(oid))
            .to_string_lossy()
            .into_owned()
    }
}

#[derive(Default)]
struct Found {
    embeds: u32,
    level: u32,
    deepest: u32,
    refused_type: Option<pg_sys::Oid>,
    system_column: bool,
}

#[pg_guard]
unsafe extern "C-unwind" fn visit(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: Postgres walks its own tree; the context is ours, and not borrowed while it walks on.
    unsafe {
        let found: *mut Found = context.cast();
        if is_a(node, pg_sys::NodeTag::T_Query) {
            return visit_query(node.cast(), found);
        }
        if is_a(node, pg_sys::NodeTag::T_Var) && (*node.cast::<pg_sys::Var>()).varattno < 0 {
            (*found).system_column = true;
            return true;
        }
        if refuses(node) {
            (*found).refused_type = Some(pg_sys::exprType(node));
            return true;
        }
        pg_sys::expression_tree_walker(node, Some(visit), context)
    }
}

/// Walks the range table itself, to track the levels of embedding.
unsafe fn visit_query(query: *mut pg_sys::Query, found: *mut Found) -> bool {
    unsafe {
        let context: *mut c_void = found.cast();
        let flags = pg_sys::QTW_IGNORE_RANGE_TABLE as i32;
        if pg_sys::query_tree_walker(query, Some(visit), context, flags) {
            return true;
        }
        let entries = pgrx::PgList::<pg_sys::RangeTblEntry>::from_pg((*query).rtable);
        for entry in entries.iter_ptr() {
            let embeds = u32::from(is_embed(entry));
            (*found).embeds += embeds;
            (*found).level += embeds;
            (*found).deepest = (*found).deepest.max((*found).level);
            if pg_sys::range_table_entry_walker(entry, Some(visit), context, 0) {
                return true;
            }
            (*found).level -= embeds;
        }
        false
    }
}

unsafe fn is_embed(entry: *const pg_sys::RangeTblEntry) -> bool {
    unsafe {
        if (*entry).rtekind != pg_sys::RTEKind::RTE_SUBQUERY || !(*entry).lateral {
            return false;
        }
        let alias = (*entry).alias;
        alias.is_null() || !NON_EMBED_ALIASES.contains(&CStr::from_ptr((*alias).aliasname))
    }
}

/// Whether a value is of a type that it may not have.
unsafe fn refuses(node: *mut pg_sys::Node) -> bool {
    use pg_sys::CoercionForm::COERCE_EXPLICIT_CAST;
    use pg_sys::NodeTag::*;
    unsafe {
        let is_cast = match (*node).type_ {
            T_FuncExpr => (*node.cast::<pg_sys::FuncExpr>()).funcformat == COERCE_EXPLICIT_CAST,
            T_RelabelType => {
                (*node.cast::<pg_sys::RelabelType>()).relabelformat == COERCE_EXPLICIT_CAST
            }
            T_CoerceViaIO => {
                (*node.cast::<pg_sys::CoerceViaIO>()).coerceformat == COERCE_EXPLICIT_CAST
            }
            T_ArrayCoerceExpr => {
                (*node.cast::<pg_sys::ArrayCoerceExpr>()).coerceformat == COERCE_EXPLICIT_CAST
            }
            T_ConvertRowtypeExpr => {
                (*node.cast::<pg_sys::ConvertRowtypeExpr>()).convertformat == COERCE_EXPLICIT_CAST
            }
            T_CoerceToDomain => {
                (*node.cast::<pg_sys::CoerceToDomain>()).coercionformat == COERCE_EXPLICIT_CAST
            }
            T_Param => false,
            _ => return false,
        };
        let of = element(pg_sys::exprType(node));
        CATALOG_TYPES.contains(&of)
            || (is_cast && !CASTABLE.contains(&of) && of.to_u32() < pg_sys::FirstNormalObjectId)
    }
}

/// An array is what its elements are.
unsafe fn element(oid: pg_sys::Oid) -> pg_sys::Oid {
    let element = unsafe { pg_sys::get_element_type(oid) };
    match element {
        pg_sys::InvalidOid => oid,
        element => element,
    }
}
