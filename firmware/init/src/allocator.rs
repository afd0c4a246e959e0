//! Memory for PID 1: when there is none, wait until the kernel has freed some. Rust's default ends the program, which for
//! PID 1 is a kernel panic. A wait that never ends is ended by the watchdog, which is not petted meanwhile.
//! `unsafe`: the allocator trait.

use core::alloc::{GlobalAlloc, Layout};
use core::time::Duration;
use std::alloc::System;

/// Between two tries; the kernel's memory killer needs some milliseconds.
const RETRY: Duration = Duration::from_millis(20);

struct Patient;

#[global_allocator]
static MEMORY: Patient = Patient;

// SAFETY: every call goes to the system allocator unchanged; it is only repeated while it has no memory.
unsafe impl GlobalAlloc for Patient {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about `layout` is passed on.
        patiently(|| unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        patiently(|| unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above; a failed reallocation leaves the block as it was, so it can be tried again.
        patiently(|| unsafe { System.realloc(block, layout, size) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

fn patiently(request: impl Fn() -> *mut u8) -> *mut u8 {
    loop {
        let block = request();
        if !block.is_null() {
            return block;
        }
        crate::console::pause(RETRY);
    }
}
