//! A run whose shapes have been seen before allocates nothing.
#![allow(unsafe_code, missing_docs)]

#[path = "run/fixture.rs"]
mod fixture;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use fixture::{WIDTH, bytes, expected, model, ramp};
use qcc_runtime::{InputView, OutputBuffer, State};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
/// What threads that started before the test did, such as the one that waits for its result, is not counted.
static EARLIER: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static NUMBER: Cell<u64> = const { Cell::new(0) };
}
static THREADS: AtomicU64 = AtomicU64::new(0);

/// This thread's number, by when it first allocated.
fn number() -> u64 {
    NUMBER.with(|n| {
        if n.get() == 0 {
            n.set(THREADS.fetch_add(1, Ordering::Relaxed) + 1);
        }
        n.get()
    })
}

// SAFETY: forwards to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if number() > EARLIER.load(Ordering::Relaxed) {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_repeated_run_allocates_nothing() {
    EARLIER.store(number() - 1, Ordering::Relaxed);
    let mut state = State::new(&model(), 3).unwrap();
    state.set_profiling(true);
    let batch = 6;
    let x = ramp(batch);
    let data = bytes(&x);
    // Neither is aligned, so copies of both are needed.
    let mut unaligned = vec![0u8; data.len() + 65];
    let shift = 1 + unaligned.as_ptr().align_offset(64);
    let mut run = |state: &mut State| {
        let y = &mut unaligned[shift..shift + data.len()];
        state
            .run(
                "step",
                &[InputView { shape: &[batch, WIDTH], data: &data }],
                &mut [OutputBuffer { data: y }],
            )
            .unwrap();
        y.to_vec()
    };
    run(&mut state);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let mut last = Vec::new();
    for _ in 0..10 {
        last = run(&mut state);
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!(allocations, 10, "each round's own `to_vec`, and nothing else");
    assert_eq!(last, bytes(&expected(&x, 11)));
}
