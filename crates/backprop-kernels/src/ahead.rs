//! Fetching the next box's operands while this box is computed.
//!
//! A box is a page or less of each operand, or a block of a convolution, where hardware prefetchers start anew; without help
//! every box would first wait for memory and then compute. What is asked for follows the box in memory, which is where most
//! programs go next; a wrong guess costs a cache line.

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;
/// The most operands that are fetched ahead.
const STREAMS: usize = 8;

/// Lines still to ask for, a few after each operation, so that requests never pile up.
pub(crate) struct Ahead {
    streams: [(*const u8, usize); STREAMS],
    count: usize,
    /// Lines per operation.
    share: usize,
}

impl Ahead {
    /// Nothing to fetch yet; `share` lines after each operation.
    pub(crate) fn new(share: usize) -> Ahead {
        Ahead { streams: [(std::ptr::null(), 0); STREAMS], count: 0, share }
    }

    /// Asks for the `bytes` that follow the `bytes` at an address.
    #[inline]
    pub(crate) fn follow(&mut self, address: *const u8, bytes: usize) {
        if self.count < STREAMS {
            self.streams[self.count] = (address.wrapping_add(bytes), bytes.div_ceil(LINE));
            self.count += 1;
        }
    }

    /// Called after each operation.
    #[inline]
    pub(crate) fn fetch(&mut self) {
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

/// Asks for a cache line that will be read: a hint that never faults, whatever the address.
#[inline(always)]
pub(crate) fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, and it reads nothing.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Likewise for one that will be written: other cores give it up.
#[inline(always)]
pub(crate) fn prefetch_for_writing<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint that changes no memory; processors that do not have it take it for no operation.
    unsafe {
        std::arch::asm!("prefetchw [{0}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Lines to ask for after each of so many operations, so that `bytes` are asked for in a box.
pub(crate) fn share(bytes: usize, operations: usize) -> usize {
    bytes.div_ceil(LINE * operations.max(1))
}
