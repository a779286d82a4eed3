//! Variables of this process: set by the postmaster and inherited by every process that it forks, or a process's own.

use std::cell::Cell;

/// Static. A process has one thread, and values are copied in and out, so nobody holds a reference to what changes.
pub struct ProcessCell<T>(Cell<T>);

// SAFETY: see above.
unsafe impl<T> Sync for ProcessCell<T> {}

impl<T: Copy> ProcessCell<T> {
    pub const fn new(value: T) -> Self {
        Self(Cell::new(value))
    }

    pub fn get(&self) -> T {
        self.0.get()
    }

    pub fn set(&self, value: T) {
        self.0.set(value);
    }
}
