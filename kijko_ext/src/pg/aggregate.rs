//! The memory of an aggregate, where its state lives.

use pgrx::{PgMemoryContexts, pg_sys};

/// None: the call is not an aggregate's.
pub fn memory(call: pg_sys::FunctionCallInfo) -> Option<PgMemoryContexts> {
    let mut context: pg_sys::MemoryContext = std::ptr::null_mut();
    // SAFETY: the call that Postgres made. It tells an aggregate's from any other.
    let is_aggregate = unsafe { pg_sys::AggCheckCallContext(call, &mut context) } != 0;
    is_aggregate.then(|| PgMemoryContexts::For(context))
}
