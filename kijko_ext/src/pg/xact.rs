//! State that a module keeps for the running transaction, with callbacks for the end of the transaction and of its
//! subtransactions.
//!
//! These are the raw callbacks of Postgres, registered once for each backend. pgrx's own would survive PREPARE and run in the
//! next transaction. COMMIT and ABORT are called after the transaction has left the list of running ones.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::ptr;

use pgrx::prelude::*;

pub trait XactCallbacks {
    /// The transaction is about to commit: its statements and deferred triggers are over, and it may still fail.
    fn pre_commit(&mut self) {}

    /// The transaction has left this backend: it was committed or prepared.
    fn commit(&mut self);

    /// Drops what subtransaction `first` and its children did; the children have higher numbers. 0 is the whole transaction.
    fn abort(&mut self, first: pg_sys::SubTransactionId);

    /// Makes what a child did its parent's.
    fn merge_into_parent(
        &mut self,
        child: pg_sys::SubTransactionId,
        parent: pg_sys::SubTransactionId,
    );

    /// Why the transaction cannot be prepared, if it cannot: COMMIT PREPARED may run in another backend, which does not have
    /// this state.
    fn prepare_error(&self) -> Option<&'static str>;
}

/// Static, because Postgres keeps its address.
pub struct PerTransaction<S> {
    state: RefCell<S>,
    registered: Cell<bool>,
}

// SAFETY: a backend has one thread.
unsafe impl<S> Sync for PerTransaction<S> {}

impl<S: XactCallbacks> PerTransaction<S> {
    pub const fn new(state: S) -> Self {
        Self {
            state: RefCell::new(state),
            registered: Cell::new(false),
        }
    }

    /// Runs `body` on the state. It must not get here again.
    pub fn with<R>(&'static self, body: impl FnOnce(&mut S) -> R) -> R {
        body(&mut self.state.borrow_mut())
    }

    /// The same, to add something: registers the callbacks first.
    pub fn with_registered<R>(&'static self, body: impl FnOnce(&mut S) -> R) -> R {
        if !self.registered.replace(true) {
            let this = ptr::from_ref(self).cast_mut().cast();
            // SAFETY: both callbacks are guarded and live as long as the library, which is never unloaded, as does
            // their argument.
            unsafe {
                pg_sys::RegisterXactCallback(Some(transaction_ends::<S>), this);
                pg_sys::RegisterSubXactCallback(Some(subtransaction_ends::<S>), this);
            }
        }
        self.with(body)
    }
}

unsafe extern "C-unwind" fn transaction_ends<S: XactCallbacks + 'static>(
    event: pg_sys::XactEvent::Type,
    held: *mut c_void,
) {
    use pg_sys::XactEvent::*;
    // SAFETY: as registered.
    unsafe {
        let held: &'static PerTransaction<S> = &*held.cast();
        pg_sys::panic::pgrx_extern_c_guard(|| match event {
            XACT_EVENT_PRE_COMMIT => held.with(S::pre_commit),
            XACT_EVENT_COMMIT | XACT_EVENT_PREPARE => held.with(S::commit),
            XACT_EVENT_ABORT => held.with(|state| state.abort(0)),
            XACT_EVENT_PRE_PREPARE => {
                if let Some(reason) = held.with(|state| state.prepare_error()) {
                    let code = PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED;
                    ereport!(ERROR, code, reason);
                }
            }
            _ => {}
        });
    }
}

unsafe extern "C-unwind" fn subtransaction_ends<S: XactCallbacks + 'static>(
    event: pg_sys::SubXactEvent::Type,
    child: pg_sys::SubTransactionId,
    parent: pg_sys::SubTransactionId,
    held: *mut c_void,
) {
    use pg_sys::SubXactEvent::*;
    // SAFETY: as registered.
    unsafe {
        let held: &'static PerTransaction<S> = &*held.cast();
        pg_sys::panic::pgrx_extern_c_guard(|| match event {
            SUBXACT_EVENT_COMMIT_SUB => {
                held.with(|state| state.merge_into_parent(child, parent));
            }
            SUBXACT_EVENT_ABORT_SUB => held.with(|state| state.abort(child)),
            _ => {}
        });
    }
}
