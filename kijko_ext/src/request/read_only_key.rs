//! Keeps an API key that only reads from writing, whatever a policy says. kijko.authenticate_api_key() makes the transaction
//! READ ONLY. A function could still say RESET transaction_read_only, which Postgres allows in the middle of a transaction.
//! So every statement makes it READ ONLY again before it runs, and one that would write is refused by a code of ours.

use std::ffi::c_char;

use pgrx::prelude::*;

use crate::api_key::calling;
use crate::guc::api_keys as setting;
use crate::pg::process::ProcessCell;
use crate::pg::sql_function::{self, Refusal};

static PREVIOUS_START: ProcessCell<pg_sys::ExecutorStart_hook_type> = ProcessCell::new(None);
static PREVIOUS_UTILITY: ProcessCell<pg_sys::ProcessUtility_hook_type> = ProcessCell::new(None);

/// Functions of Postgres without pgrx's guard: an error passes frames here that own nothing.
mod unguarded {
    use super::c_char;
    use pgrx::pg_sys::*;

    unsafe extern "C-unwind" {
        #[allow(non_snake_case, reason = "as Postgres calls it")]
        pub fn standard_ExecutorStart(query: *mut QueryDesc, flags: i32);
        #[allow(non_snake_case, reason = "as Postgres calls it")]
        pub fn standard_ProcessUtility(
            statement: *mut PlannedStmt,
            text: *const c_char,
            keep_tree: bool,
            context: ProcessUtilityContext::Type,
            parameters: ParamListInfo,
            environment: *mut QueryEnvironment,
            receiver: *mut DestReceiver,
            completion: *mut QueryCompletion,
        );
    }
}

pub fn init() {
    // SAFETY: while the postmaster starts; a backend has one thread.
    unsafe {
        PREVIOUS_START.set(pg_sys::ExecutorStart_hook);
        pg_sys::ExecutorStart_hook = Some(start);
        PREVIOUS_UTILITY.set(pg_sys::ProcessUtility_hook);
        pg_sys::ProcessUtility_hook = Some(utility);
    }
}

/// Owns nothing that an error would leave behind.
unsafe extern "C-unwind" fn start(query: *mut pg_sys::QueryDesc, flags: i32) {
    // SAFETY: called by Postgres, as the hooks before it.
    unsafe {
        if setting::calling_key().is_some() {
            sql_function::raise_refusal(|| match restrict() && writes((*query).plannedstmt) {
                true => Err(refusal()),
                false => Ok(()),
            });
        }
        match PREVIOUS_START.get() {
            Some(previous) => previous(query, flags),
            None => unguarded::standard_ExecutorStart(query, flags),
        }
    }
}

/// Postgres itself refuses utility commands that write in a READ ONLY transaction.
unsafe extern "C-unwind" fn utility(
    statement: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    keep_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    receiver: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: as above.
    unsafe {
        // What ends a failed transaction writes nothing, and may read no table.
        if setting::calling_key().is_some() && !pg_sys::IsAbortedTransactionBlockState() {
            sql_function::raise_refusal(|| {
                restrict();
                Ok(())
            });
        }
        let next = match PREVIOUS_UTILITY.get() {
            Some(previous) => previous,
            None => unguarded::standard_ProcessUtility,
        };
        next(
            statement,
            text,
            keep_tree,
            context,
            parameters,
            environment,
            receiver,
            completion,
        );
    }
}

/// Makes the transaction READ ONLY if the caller is a key that only reads. Says whether it is.
fn restrict() -> bool {
    let only_reads = calling::current().is_some_and(|key| key.only_reads());
    if only_reads {
        // SAFETY: a variable of this backend, which the end of the (sub)transaction restores.
        unsafe { pg_sys::XactReadOnly = true };
    }
    only_reads
}

unsafe fn writes(statement: *const pg_sys::PlannedStmt) -> bool {
    unsafe {
        (*statement).commandType != pg_sys::CmdType::CMD_SELECT || (*statement).hasModifyingCTE
    }
}

fn refusal() -> Refusal {
    let details = "the permissions of this API key are all to read";
    Refusal::new("permission_denied", details, None)
}
