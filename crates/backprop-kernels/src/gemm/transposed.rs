//! An epilogue for a product whose rows are the columns of what the epilogue was planned for.

use std::sync::Arc;

use super::epilogue::Epilogue;
use super::pack::store_transposed;
use super::round64;

/// Rows and columns of the product that are turned at once: 16 KiB.
const ROWS: usize = 128;
const COLS: usize = 32;

/// Turns finished tiles and hands them on.
pub(super) struct Transposed {
    pub inner: Arc<dyn Epilogue>,
    pub simd: bool,
}

impl Epilogue for Transposed {
    fn scratch(&self) -> usize {
        round64(4 * ROWS * COLS) + self.inner.scratch()
    }

    unsafe fn apply(
        &self,
        batch: usize,
        row0: usize,
        rows: usize,
        col0: usize,
        cols: usize,
        tile: *const f32,
        ld: usize,
        operands: &[*mut u8],
        scratch: *mut u8,
    ) {
        let turned: *mut f32 = scratch.cast();
        let scratch = scratch.wrapping_add(round64(4 * ROWS * COLS));
        for row in (0..rows).step_by(ROWS) {
            let count = (rows - row).min(ROWS);
            for col in (0..cols).step_by(COLS) {
                let width = (cols - col).min(COLS);
                // SAFETY: the caller's promise, restricted to a part of the tile; the part fits into the scratch.
                unsafe {
                    store_transposed(tile.add(row * ld + col), ld, count, width, turned, count, self.simd);
                    self.inner.apply(batch, col0 + col, width, row0 + row, count, turned, count, operands, scratch);
                }
            }
        }
    }

    fn fetch(&self, batch: usize, row0: usize, rows: usize, col0: usize, cols: usize, operands: &[*mut u8]) {
        self.inner.fetch(batch, col0, cols, row0, rows, operands);
    }
}
