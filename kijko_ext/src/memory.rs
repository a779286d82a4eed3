//! How the C library keeps memory that was freed.

/// A request's plans and states come to some hundred kilobytes, all freed at its end. As soon as 128 KiB at the top of the
/// heap are free, glibc gives them back to the kernel, and asks for them again at the next request: five system calls and
/// two page faults each time, 30 us of 260. Freeing a large block moves that threshold to twice its size (and keeps it
/// moving, which setting it by mallopt would end). Done in the postmaster, every process has it from the start; other C
/// libraries do nothing.
pub fn init() {
    const BLOCK: usize = 1 << 20;
    // SAFETY: never written to, and freed at once.
    unsafe { libc::free(std::hint::black_box(libc::malloc(BLOCK))) };
}
