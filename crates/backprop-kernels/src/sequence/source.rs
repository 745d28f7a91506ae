//! Recurrent weights as the right operand of a product, the gates of a unit side by side.

use super::GROUP;
use crate::{
    Isa,
    gemm::{
        pack::{MAX_WIDTH, pack_rows},
        source::{Rows, Source},
    },
};

/// Weights `[gates · hidden, hidden]`, a gate's rows together. Column c of the product belongs to a group of [`GROUP`] units (fewer in the
/// last), gate by gate.
pub(super) struct Interleaved {
    pub gates: usize,
    pub hidden: usize,
    pub isa: Isa,
}

impl Interleaved {
    /// The row of the weights that a column belongs to.
    fn row(&self, column: usize) -> usize {
        let first = column / (self.gates * GROUP) * GROUP;
        let count = (self.hidden - first).min(GROUP);
        let within = column - first * self.gates;
        within / count * self.hidden + first + within % count
    }
}

impl Source for Interleaved {
    unsafe fn pack(&self, base: *const f32, _: usize, rows: Rows, k0: usize, k: usize, dst: *mut f32) {
        let mut starts = [base; MAX_WIDTH];
        for (r, start) in starts[..rows.count].iter_mut().enumerate() {
            *start = base.wrapping_add(self.row(rows.first + r) * self.hidden + k0);
        }
        // SAFETY: the rows and terms lie within the weights, as the caller vouches.
        unsafe { pack_rows(&starts[..rows.count], 1, k, dst, rows.width, self.isa) };
    }

    fn strides(&self) -> Option<(isize, isize)> {
        None
    }

    fn batch_offset(&self, _: usize) -> isize {
        0
    }

    fn is_shared_by_batches(&self) -> bool {
        true
    }
}
