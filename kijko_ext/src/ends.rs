//! What a module holds for the running transaction, and what becomes of it when the transaction or one of its
//! subtransactions ends.
//!
//! The raw callbacks of Postgres, once for each backend: pgrx's own are kept for the next transaction when one is
//! prepared. COMMIT and ABORT are called after the transaction has left the list of running ones.

use std::cell::{Cell, UnsafeCell};
use std::ffi::c_void;
use std::ptr;

use pgrx::prelude::*;

pub trait Ends {
    fn commit(&mut self);

    /// Drops what was done in `first` or one of its children, which have higher numbers. 0 is the whole transaction.
    fn abort(&mut self, first: pg_sys::SubTransactionId);

    /// What a child did is its parent's.
    fn hand_over(&mut self, child: pg_sys::SubTransactionId, parent: pg_sys::SubTransactionId);

    /// Why the transaction cannot be prepared: COMMIT PREPARED runs in another backend, where nobody would know of what
    /// is held here.
    fn bars_prepare(&self) -> Option<&'static str>;
}

/// Static: Postgres keeps its address.
pub struct OfTransaction<S> {
    state: UnsafeCell<S>,
    registered: Cell<bool>,
}

// SAFETY: a backend has one thread.
unsafe impl<S> Sync for OfTransaction<S> {}

// The backend's one thread is the only user, and no reference is kept across a call that could get here again.
#[allow(clippy::mut_from_ref)]
impl<S: Ends> OfTransaction<S> {
    pub const fn new(state: S) -> Self {
        Self {
            state: UnsafeCell::new(state),
            registered: Cell::new(false),
        }
    }

    pub fn get(&'static self) -> &'static mut S {
        // SAFETY: as said.
        unsafe { &mut *self.state.get() }
    }

    /// The same, to hold something more: from now on it is told how transactions end.
    pub fn registered(&'static self) -> &'static mut S {
        if !self.registered.replace(true) {
            let this = ptr::from_ref(self).cast_mut().cast();
            // SAFETY: both callbacks are guarded and live as long as the library, which is never unloaded, as does
            // their argument.
            unsafe {
                pg_sys::RegisterXactCallback(Some(transaction_ends::<S>), this);
                pg_sys::RegisterSubXactCallback(Some(subtransaction_ends::<S>), this);
            }
        }
        self.get()
    }
}

unsafe extern "C-unwind" fn transaction_ends<S: Ends + 'static>(
    event: pg_sys::XactEvent::Type,
    held: *mut c_void,
) {
    use pg_sys::XactEvent::*;
    // SAFETY: as registered.
    unsafe {
        let held: &'static OfTransaction<S> = &*held.cast();
        pg_sys::panic::pgrx_extern_c_guard(|| match event {
            XACT_EVENT_COMMIT => held.get().commit(),
            XACT_EVENT_ABORT => held.get().abort(0),
            XACT_EVENT_PRE_PREPARE => {
                if let Some(reason) = held.get().bars_prepare() {
                    let code = PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED;
                    ereport!(ERROR, code, reason);
                }
            }
            _ => {}
        });
    }
}

unsafe extern "C-unwind" fn subtransaction_ends<S: Ends + 'static>(
    event: pg_sys::SubXactEvent::Type,
    child: pg_sys::SubTransactionId,
    parent: pg_sys::SubTransactionId,
    held: *mut c_void,
) {
    use pg_sys::SubXactEvent::*;
    // SAFETY: as registered.
    unsafe {
        let held: &'static OfTransaction<S> = &*held.cast();
        pg_sys::panic::pgrx_extern_c_guard(|| match event {
            SUBXACT_EVENT_COMMIT_SUB => held.get().hand_over(child, parent),
            SUBXACT_EVENT_ABORT_SUB => held.get().abort(child),
            _ => {}
        });
    }
}
