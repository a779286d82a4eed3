//! Waits until a slot of the table of counters is free or loaded.

use std::cell::Cell;
use std::sync::atomic::Ordering;

use pgrx::prelude::*;

use super::slot_table::{self, CounterKey, Partition};

/// Registered as a waiter until it is dropped, also by an interrupt's error, or until the backend ends: a terminated one drops
/// nothing.
pub struct Waiter(&'static Partition);

thread_local! {
    static WAITING_FOR: Cell<Option<&'static Partition>> = const { Cell::new(None) };
    static IS_REGISTERED: Cell<bool> = const { Cell::new(false) };
}

#[pg_guard]
unsafe extern "C-unwind" fn stop_waiting(_code: i32, _argument: pg_sys::Datum) {
    if let Some(partition) = WAITING_FOR.take() {
        partition.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Waiter {
    pub fn new(key: &CounterKey) -> Self {
        let partition = slot_table::partition_of(key);
        if !IS_REGISTERED.replace(true) {
            // SAFETY: the callback is guarded and lives as long as the library.
            unsafe { pg_sys::before_shmem_exit(Some(stop_waiting), pg_sys::Datum::null()) };
        }
        partition.waiting.fetch_add(1, Ordering::SeqCst);
        WAITING_FOR.set(Some(partition));
        // SAFETY: the condition variable is in shared memory. From here on no wake-up is lost.
        unsafe { pg_sys::ConditionVariablePrepareToSleep(partition.changed()) };
        Self(partition)
    }

    /// Sleeps until a wake-up, for at most 100 ms. Processes interrupts.
    pub fn sleep(&self) {
        // SAFETY: as above.
        unsafe {
            pg_sys::ConditionVariableTimedSleep(self.0.changed(), 100, pg_sys::PG_WAIT_EXTENSION);
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if WAITING_FOR.take().is_some() {
            self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        // SAFETY: raises no errors, and does nothing when an aborting transaction has cancelled the sleep already.
        unsafe { pg_sys::ConditionVariableCancelSleep() };
    }
}
