//! What is made of a time step's sums, in the epilogue of its product.

use crate::gemm::Epilogue;
use std::ops::Range;

/// Rows and columns of a product, with the sums there.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    pub rows: [usize; 2],
    pub cols: [usize; 2],
    pub at: *const f32,
    /// Distance between rows.
    pub ld: usize,
}

/// Addresses of what a time step reads and writes.
pub(super) trait Round: 'static {
    /// Asks for what is needed for rows and columns of the product, of a cell of so many gates.
    fn fetch(&self, rows: Range<usize>, cols: Range<usize>, gates: usize);
}

/// The epilogue of a product whose third operand is the address of a round.
pub(super) struct Step<R> {
    pub apply: unsafe fn(&R, Sums),
    pub gates: usize,
}

impl<R: Round> Epilogue for Step<R> {
    fn scratch(&self) -> usize {
        0
    }

    unsafe fn apply(
        &self,
        _: usize,
        row0: usize,
        rows: usize,
        col0: usize,
        cols: usize,
        tile: *const f32,
        ld: usize,
        operands: &[*mut u8],
        _: *mut u8,
    ) {
        let sums = Sums { rows: [row0, row0 + rows], cols: [col0, col0 + cols], at: tile, ld };
        // SAFETY: the kernel hands over a round's address; blocks hold whole groups; the rest is the caller's word.
        unsafe { (self.apply)(&*operands[2].cast::<R>(), sums) }
    }

    fn fetch(&self, _: usize, row0: usize, rows: usize, col0: usize, cols: usize, operands: &[*mut u8]) {
        // SAFETY: the kernel hands over a round's address.
        let round = unsafe { &*operands[2].cast::<R>() };
        round.fetch(row0..row0 + rows, col0..col0 + cols, self.gates);
    }
}
