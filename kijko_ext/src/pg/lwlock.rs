//! A lightweight lock, held as long as its guard lives.

use std::ptr::NonNull;

use pgrx::pg_sys;

/// Without pgrx's guard, which costs as much as they do. They fail only if this library has a fault: it holds a few locks at
/// once, of the two hundred that a process may, and releases each once.
mod unguarded {
    use pgrx::pg_sys::{LWLock, LWLockMode};

    unsafe extern "C-unwind" {
        #[allow(non_snake_case, reason = "as Postgres calls it")]
        pub fn LWLockAcquire(lock: *mut LWLock, mode: LWLockMode::Type) -> bool;
        #[allow(non_snake_case, reason = "as Postgres calls it")]
        pub fn LWLockRelease(lock: *mut LWLock);
    }
}

/// Nothing may fail, allocate, report or wait while it is held: an error would leave the lock to the end of the transaction.
pub struct LwLockGuard(NonNull<pg_sys::LWLock>);

impl LwLockGuard {
    /// # Safety
    /// `lock` is one of a tranche in shared memory.
    pub unsafe fn acquire(lock: *mut pg_sys::LWLockPadded, mode: pg_sys::LWLockMode::Type) -> Self {
        unsafe {
            let lock = NonNull::new_unchecked(&raw mut (*lock).lock);
            unguarded::LWLockAcquire(lock.as_ptr(), mode);
            Self(lock)
        }
    }
}

impl Drop for LwLockGuard {
    fn drop(&mut self) {
        // SAFETY: acquired by acquire().
        unsafe { unguarded::LWLockRelease(self.0.as_ptr()) };
    }
}
