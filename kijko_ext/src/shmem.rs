//! Areas of shared memory: reserved when the postmaster starts, of a fixed size, all zero at every start and again after
//! a crash, each with its own locks.

use std::ffi::CStr;
use std::ptr;

use pgrx::prelude::*;

pub mod table;

pub struct Area {
    pub name: &'static CStr,
    pub size: fn() -> usize,
    pub locks: usize,
    /// Told where the area and its locks are, by the postmaster, before any other process exists.
    pub made: unsafe fn(*mut u8, *mut pg_sys::LWLockPadded),
}

static mut AREAS: &[Area] = &[];
static mut PREVIOUS_REQUEST: pg_sys::shmem_request_hook_type = None;
static mut PREVIOUS_STARTUP: pg_sys::shmem_startup_hook_type = None;

pub fn init(areas: &'static [Area]) {
    // SAFETY: the postmaster has one thread, and the hooks chain to those of other libraries.
    unsafe {
        AREAS = areas;
        PREVIOUS_REQUEST = pg_sys::shmem_request_hook;
        pg_sys::shmem_request_hook = Some(request);
        PREVIOUS_STARTUP = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(startup);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn request() {
    unsafe {
        if let Some(previous) = PREVIOUS_REQUEST {
            previous();
        }
        for area in AREAS {
            pg_sys::RequestAddinShmemSpace((area.size)());
            pg_sys::RequestNamedLWLockTranche(area.name.as_ptr(), area.locks as i32);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn startup() {
    unsafe {
        if let Some(previous) = PREVIOUS_STARTUP {
            previous();
        }
        for area in AREAS {
            let mut found = false;
            let size = (area.size)();
            let start: *mut u8 =
                pg_sys::ShmemInitStruct(area.name.as_ptr(), size, &mut found).cast();
            if !found {
                ptr::write_bytes(start, 0, size);
            }
            (area.made)(start, pg_sys::GetNamedLWLockTranche(area.name.as_ptr()));
        }
    }
}

/// Random, so that nobody can choose keys that fall into one set, or onto each other.
pub fn seed() -> u64 {
    let mut seed = 0_u64;
    // SAFETY: writes eight bytes.
    if !unsafe { pg_sys::pg_strong_random((&raw mut seed).cast(), size_of::<u64>()) } {
        error!("no random seed for shared memory");
    }
    seed
}

/// A lock of an area, held until it is dropped. Nothing may fail, allocate or report meanwhile.
pub struct Held(*mut pg_sys::LWLock);

impl Held {
    /// # Safety
    /// `lock` is one of the area's.
    pub unsafe fn new(lock: *mut pg_sys::LWLockPadded, mode: pg_sys::LWLockMode::Type) -> Self {
        unsafe {
            let lock = &raw mut (*lock).lock;
            pg_sys::LWLockAcquire(lock, mode);
            Self(lock)
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: acquired by new().
        unsafe { pg_sys::LWLockRelease(self.0) };
    }
}
