//! Makes glibc keep freed memory for the next request.

/// A request allocates some hundred kilobytes for plans and states and frees them at its end. glibc returns memory to the
/// kernel as soon as 128 KiB at the top of the heap are free, and requests it again at the next request: five system calls
/// and two page faults each time, 30 us of 260. Freeing a large block raises that threshold to twice the block's size.
/// (mallopt would also set it, but end its automatic adjustment.) The postmaster does this once, and every process inherits
/// it. Other C libraries ignore it.
pub fn init() {
    const BLOCK: usize = 1 << 20;
    // SAFETY: never written to, and freed at once.
    unsafe { libc::free(std::hint::black_box(libc::malloc(BLOCK))) };
}
