//! Fetching the next box's operands while this box is computed.
//!
//! A box is a page or less of each operand, where hardware prefetchers start anew; without help every box would first wait for
//! memory and then compute. What is asked for follows the box in memory, which is where most programs go next; a wrong guess
//! costs a cache line.

/// Bytes of a cache line.
const LINE: usize = 64;
/// The most operands that are fetched ahead.
const STREAMS: usize = 8;

/// Lines still to ask for, a few after each operation, so that requests never pile up.
pub(super) struct Ahead {
    streams: [(*const u8, usize); STREAMS],
    count: usize,
    /// Lines per operation.
    share: usize,
}

impl Ahead {
    /// Nothing to fetch yet; `share` lines after each operation.
    pub(super) fn new(share: usize) -> Ahead {
        Ahead { streams: [(std::ptr::null(), 0); STREAMS], count: 0, share }
    }

    /// Asks for the `bytes` that follow the `bytes` at an address.
    #[inline]
    pub(super) fn follow(&mut self, address: *const u8, bytes: usize) {
        if self.count < STREAMS {
            self.streams[self.count] = (address.wrapping_add(bytes), bytes.div_ceil(LINE));
            self.count += 1;
        }
    }

    /// Called after each operation.
    #[inline]
    pub(super) fn fetch(&mut self) {
        let mut left = self.share;
        while left > 0 && self.count > 0 {
            let (address, lines) = &mut self.streams[self.count - 1];
            let taken = left.min(*lines);
            for _ in 0..taken {
                prefetch(*address);
                *address = address.wrapping_add(LINE);
            }
            *lines -= taken;
            left -= taken;
            if *lines == 0 {
                self.count -= 1;
            }
        }
    }
}

/// A hint that never faults, whatever the address.
#[inline]
fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, and it reads nothing.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Lines to ask for after each of so many operations, so that `bytes` are asked for in a box.
pub(super) fn share(bytes: usize, operations: usize) -> usize {
    bytes.div_ceil(LINE * operations.max(1))
}
