//! A lightweight lock, held as long as its guard lives.

use std::ptr::NonNull;

use pgrx::pg_sys;

/// Nothing may fail, allocate, report or wait while it is held: an error would leave the lock to the end of the transaction.
pub struct LwLockGuard(NonNull<pg_sys::LWLock>);

impl LwLockGuard {
    /// # Safety
    /// `lock` is one of a tranche in shared memory.
    pub unsafe fn acquire(lock: *mut pg_sys::LWLockPadded, mode: pg_sys::LWLockMode::Type) -> Self {
        unsafe {
            let lock = NonNull::new_unchecked(&raw mut (*lock).lock);
            pg_sys::LWLockAcquire(lock.as_ptr(), mode);
            Self(lock)
        }
    }
}

impl Drop for LwLockGuard {
    fn drop(&mut self) {
        // SAFETY: acquired by acquire().
        unsafe { pg_sys::LWLockRelease(self.0.as_ptr()) };
    }
}
