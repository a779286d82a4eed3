//! The memory limit of a request's query. Embedded resources multiply rows, and the whole answer is aggregated in memory
//! before any of it is sent. So every node of the plan checks the query's memory while it runs, and the query fails once it
//! exceeds `kijko.request_memory`. Process limits cannot replace this: the next allocation of any code would fail, and a
//! failed allocation in this library restarts the cluster.

use std::ffi::c_void;

use pgrx::pg_sys;

use crate::pg::process::ProcessCell;
use crate::pg::sql_function::{self, Refusal};
use crate::{guc, trust};

/// Rows of all nodes together between two checks. A check costs about as much as a row.
const ROWS_PER_CHECK: u32 = 16;

static PREVIOUS: ProcessCell<pg_sys::ExecutorStart_hook_type> = ProcessCell::new(None);
static ROWS: ProcessCell<u32> = ProcessCell::new(0);

/// Functions of Postgres without pgrx's guard: an error passes frames here that own nothing.
mod unguarded {
    use pgrx::pg_sys::*;

    unsafe extern "C-unwind" {
        #[allow(non_snake_case, reason = "as Postgres calls it")]
        pub fn standard_ExecutorStart(query: *mut QueryDesc, flags: i32);
        #[allow(non_snake_case, reason = "as Postgres calls it")]
        pub fn MemoryContextMemAllocated(context: MemoryContext, recurse: bool) -> Size;
        pub fn check_stack_depth();
    }
}

pub fn init() {
    // SAFETY: while the postmaster starts; a backend has one thread.
    unsafe {
        PREVIOUS.set(pg_sys::ExecutorStart_hook);
        pg_sys::ExecutorStart_hook = Some(start);
    }
}

unsafe extern "C-unwind" fn start(query: *mut pg_sys::QueryDesc, flags: i32) {
    // SAFETY: called by Postgres, as the hooks before it.
    unsafe {
        match PREVIOUS.get() {
            Some(previous) => previous(query, flags),
            None => unguarded::standard_ExecutorStart(query, flags),
        }
        sql_function::raise_refusal(|| {
            // With instruments the nodes are wrapped already: EXPLAIN, which no request may use.
            if (*query).instrument_options == 0 && trust::is_request() {
                watch((*query).planstate, std::ptr::null_mut());
            }
            Ok(())
        });
    }
}

/// Installs `next` in a node and all below it. Postgres keeps a node's own function in ExecProcNodeReal.
unsafe extern "C-unwind" fn watch(node: *mut pg_sys::PlanState, context: *mut c_void) -> bool {
    unsafe {
        if !node.is_null() {
            (*node).ExecProcNode = Some(next);
            pg_sys::planstate_tree_walker(node, Some(watch), context);
        }
        false
    }
}

/// A node's next row. Checks the stack depth as ExecProcNodeFirst does; the node's own function does not.
unsafe extern "C-unwind" fn next(node: *mut pg_sys::PlanState) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: called by the executor for a node that `watch` has seen.
    unsafe {
        let rows = ROWS.get().wrapping_add(1);
        ROWS.set(rows);
        if rows.is_multiple_of(ROWS_PER_CHECK) {
            unguarded::check_stack_depth();
            let held =
                unguarded::MemoryContextMemAllocated((*(*node).state).es_query_cxt, true) as u64;
            if held > guc::request_memory_bytes() {
                sql_function::raise_refusal(|| Err(refusal()));
            }
        }
        match (*node).ExecProcNodeReal {
            Some(real) => real(node),
            None => std::ptr::null_mut(),
        }
    }
}

fn refusal() -> Refusal {
    let megabytes = guc::request_memory_bytes() >> 20;
    Refusal::new(
        "bad_request",
        &format!("the answer takes more than {megabytes} MB of memory to put together"),
        Some("Ask for fewer rows, columns or embedded resources, or in several requests."),
    )
}
