//! Handles out-of-memory conditions.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator. A request that it cannot fulfil (`ulimit -v`) ends the process with an error message and an
/// exit status; the standard library would abort it.
pub struct Memory {
    status: i32,
}

impl Memory {
    /// Creates the allocator for `#[global_allocator]`, with the exit status.
    pub const fn or_exit(status: i32) -> Memory {
        Memory { status }
    }

    /// Returns the pointer of a fulfilled request.
    fn checked(&self, pointer: *mut u8) -> *mut u8 {
        if pointer.is_null() {
            // If this write fails, nothing else can be done.
            let _ = rustix::io::write(
                std::io::stderr(),
                b"xtask: not enough memory, or the memory limit is too low
",
            );
            // Do not run the handlers of `exit`, which may allocate.
            // SAFETY: the call ends the process, and has no precondition.
            unsafe { libc::_exit(self.status) };
        }
        pointer
    }
}

// SAFETY: every request is passed to `System` unchanged and its answer returned unchanged, so what `System` guarantees
// holds here. `checked` neither allocates nor unwinds.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, here and below.
        self.checked(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for `alloc`.
        self.checked(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as for `alloc`; `System` has allocated every block.
        self.checked(unsafe { System.realloc(pointer, layout, size) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as for `realloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}
