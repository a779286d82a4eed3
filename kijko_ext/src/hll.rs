//! Distinct counts by HyperLogLog: a sketch of a set of UUIDs takes at most 4 KiB, and sketches of several sets give the count of
//! their union (sketch.rs). Own code, so that the stored bytes are ours on every version of Postgres.

use pgrx::prelude::*;
use pgrx::{Internal, PgMemoryContexts, PgSqlErrorCode, Uuid};

mod sketch;

use sketch::Sketch;

/// A row without a value changes nothing.
#[pg_extern(immutable)]
fn hll_add(state: Internal, element: Option<Uuid>, call: pg_sys::FunctionCallInfo) -> Internal {
    match element {
        Some(element) => change(state, call, |sketch| sketch.add(element.as_bytes())),
        None => state,
    }
}

/// A row without a sketch changes nothing.
#[pg_extern(immutable)]
fn hll_merge(state: Internal, other: Option<&[u8]>, call: pg_sys::FunctionCallInfo) -> Internal {
    match other.map(read) {
        Some(other) => change(state, call, |sketch| sketch.merge(&other)),
        None => state,
    }
}

/// Null when no row had a value.
#[pg_extern(immutable)]
fn hll_final(state: Internal) -> Option<Vec<u8>> {
    // SAFETY: only `change` makes states.
    unsafe { state.get::<Sketch>() }.map(Sketch::to_bytes)
}

/// How many distinct elements a sketch has seen; 0 for null.
#[pg_extern(immutable, parallel_safe)]
fn hll_cardinality(sketch: Option<&[u8]>) -> i64 {
    sketch.map_or(0, |bytes| read(bytes).cardinality())
}

/// Changes the aggregate's sketch; its first row makes it. The reference ends with the call: Postgres owns the sketch.
fn change(
    mut state: Internal,
    call: pg_sys::FunctionCallInfo,
    change: impl FnOnce(&mut Sketch),
) -> Internal {
    // SAFETY: only this function makes states, and Postgres keeps one as long as its aggregate runs.
    if let Some(sketch) = unsafe { state.get_mut::<Sketch>() } {
        change(sketch);
        return state;
    }
    let mut sketch = Sketch::default();
    change(&mut sketch);
    let sketch = aggregate_memory(call).leak_and_drop_on_delete(sketch);
    Internal::from(Some(pg_sys::Datum::from(sketch)))
}

fn read(bytes: &[u8]) -> Sketch {
    Sketch::from_bytes(bytes).unwrap_or_else(|| {
        let code = PgSqlErrorCode::ERRCODE_INVALID_BINARY_REPRESENTATION;
        ereport!(ERROR, code, "not a sketch of distinct elements");
    })
}

fn aggregate_memory(call: pg_sys::FunctionCallInfo) -> PgMemoryContexts {
    crate::pg::aggregate::memory(call).unwrap_or_else(|| {
        let code = PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
        ereport!(ERROR, code, "only an aggregate calls this function");
    })
}
