//! LLVM's coverage counters: one byte for each edge of the library's code, if it was built by tests/fuzz/instrument.

use std::{
    slice,
    sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed},
};

static FIRST: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Each instrumented module calls this before `main`, with the counters of all modules that were linked together.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(first: *mut u8, end: *mut u8) {
    let count = end as usize - first as usize;
    if count > COUNT.load(Relaxed) {
        FIRST.store(first, Relaxed);
        COUNT.store(count, Relaxed);
    }
}

/// The counters. Other threads may count meanwhile; a count that is lost only hides that an input is new.
fn counters() -> &'static mut [u8] {
    let first = FIRST.load(Relaxed);
    if first.is_null() {
        return &mut [];
    }
    // SAFETY: LLVM gave this range, which lives as long as the program and holds plain bytes. Only this thread uses the slice.
    unsafe { slice::from_raw_parts_mut(first, COUNT.load(Relaxed)) }
}

/// Whether the library was built with counters.
pub(crate) fn is_on() -> bool {
    COUNT.load(Relaxed) > 0
}

/// Sets all counters to zero.
pub(crate) fn clear() {
    counters().fill(0);
}

/// How often an edge was passed, as a bit: more inputs than these do not differ.
fn bucket(count: u8) -> u8 {
    match count {
        0 => 0,
        1 => 1,
        2 => 1 << 1,
        3 => 1 << 2,
        4..=7 => 1 << 3,
        8..=15 => 1 << 4,
        16..=31 => 1 << 5,
        32..=127 => 1 << 6,
        _ => 1 << 7,
    }
}

/// What the inputs of a target have reached so far.
#[derive(Default)]
pub(crate) struct Reached(Vec<u8>);

impl Reached {
    /// Adds what was reached since [`clear`], and returns whether any of it is new.
    pub(crate) fn add(&mut self) -> bool {
        let counters = counters();
        self.0.resize(counters.len(), 0);
        let mut is_new = false;
        for (block, seen) in counters.chunks(8).zip(self.0.chunks_mut(8)) {
            if block == &[0; 8][..block.len()] {
                continue;
            }
            for (count, seen) in block.iter().zip(seen) {
                let bit = bucket(*count);
                is_new |= bit & !*seen != 0;
                *seen |= bit;
            }
        }
        is_new
    }

    /// How many edges were reached.
    pub(crate) fn count(&self) -> usize {
        self.0.iter().filter(|seen| **seen != 0).count()
    }
}
