//! Regions of shared memory, each with its own locks. The postmaster reserves them when it starts, with a fixed size. They are
//! zeroed at every start and after a crash.

use std::ffi::CStr;
use std::ptr;

use pgrx::prelude::*;

use crate::pg::process::ProcessCell;

pub mod set_associative;

pub struct Region {
    pub name: &'static CStr,
    pub size: fn() -> usize,
    pub locks: usize,
    /// Receives the addresses of the region and its locks. The postmaster calls it before any other process exists.
    pub attach: unsafe fn(*mut u8, *mut pg_sys::LWLockPadded),
}

static REGIONS: ProcessCell<&[Region]> = ProcessCell::new(&[]);
static PREVIOUS_REQUEST: ProcessCell<pg_sys::shmem_request_hook_type> = ProcessCell::new(None);
static PREVIOUS_STARTUP: ProcessCell<pg_sys::shmem_startup_hook_type> = ProcessCell::new(None);

pub fn init(regions: &'static [Region]) {
    // SAFETY: the postmaster has one thread, and the hooks chain to those of other libraries.
    unsafe {
        REGIONS.set(regions);
        PREVIOUS_REQUEST.set(pg_sys::shmem_request_hook);
        pg_sys::shmem_request_hook = Some(request);
        PREVIOUS_STARTUP.set(pg_sys::shmem_startup_hook);
        pg_sys::shmem_startup_hook = Some(startup);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn request() {
    unsafe {
        if let Some(previous) = PREVIOUS_REQUEST.get() {
            previous();
        }
        for region in REGIONS.get() {
            pg_sys::RequestAddinShmemSpace((region.size)());
            pg_sys::RequestNamedLWLockTranche(region.name.as_ptr(), region.locks as i32);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn startup() {
    unsafe {
        if let Some(previous) = PREVIOUS_STARTUP.get() {
            previous();
        }
        for region in REGIONS.get() {
            let mut found = false;
            let size = (region.size)();
            let start: *mut u8 =
                pg_sys::ShmemInitStruct(region.name.as_ptr(), size, &mut found).cast();
            if !found {
                ptr::write_bytes(start, 0, size);
            }
            (region.attach)(start, pg_sys::GetNamedLWLockTranche(region.name.as_ptr()));
        }
    }
}
