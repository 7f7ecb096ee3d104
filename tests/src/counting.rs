//! How much memory a piece of work asks for: the system's allocator, counting by thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

/// To be declared in the test that counts: `#[global_allocator] static ALLOCATOR: Counting = Counting;`
pub struct Counting;

/// How many allocations this thread makes while it works, those that grow something included.
pub fn allocations_of(work: impl FnOnce()) -> u64 {
    assert_counting();
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// Bytes that this thread has allocated and nobody has freed, beyond those that others allocated and it has freed.
pub fn held_bytes() -> i64 {
    assert_counting();
    HELD.get()
}

/// The most that [`held_bytes`] comes to while it works.
pub fn peak_bytes_of(work: impl FnOnce()) -> i64 {
    assert_counting();
    PEAK.set(HELD.get());
    work();
    PEAK.get()
}

fn assert_counting() {
    let before = ALLOCATIONS.get();
    drop(black_box(Box::new(0)));
    assert_ne!(ALLOCATIONS.get(), before, "the test has not declared the allocator that counts");
}

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

// A thread's cells are gone while it ends; nobody reads the counts then.

fn count() {
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

fn hold(more: usize, less: usize) {
    let held = HELD.try_with(|held| {
        held.set(held.get() + more as i64 - less as i64);
        held.get()
    });
    if let Ok(held) = held {
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held)));
    }
}

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        hold(layout.size(), 0);
        // SAFETY: the caller keeps alloc's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        hold(0, layout.size());
        // SAFETY: the caller keeps dealloc's contract, and `alloc` above is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        hold(size, layout.size());
        // SAFETY: the caller keeps realloc's contract, and `alloc` above is the system's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
