//! The two operands of a product, seen as rows of k terms: rows of A, columns of B.

use super::KC;
use super::pack::{MAX_WIDTH, pack_adjacent, pack_rows};
use crate::Isa;

/// One operand: `batches` matrices of rows with k terms each, in any layout.
pub(crate) trait Source: Send + Sync {
    /// Packs `rows` rows from `row0`, terms `k0 .. k0 + k` (`k <= KC`), as `dst[term * width + row]`, zero beyond `rows`.
    ///
    /// # Safety
    /// `base` is the operand as planned, the ranges lie within it, `dst` is valid for `k * width` elements, and the processor
    /// has the instructions that the source was made for.
    unsafe fn pack(&self, base: *const f32, batch: usize, rows: Rows, k0: usize, k: usize, dst: *mut f32);

    /// The strides (row, term) if the operand can be read in place.
    fn strides(&self) -> Option<(isize, isize)>;

    /// Offset in elements of the first term of the first row of a batch; only for sources with strides.
    fn batch_offset(&self, batch: usize) -> isize;

    /// Whether all batches are the same matrix.
    fn is_shared_by_batches(&self) -> bool;
}

/// A range of rows and the width of the panel it is packed into.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub first: usize,
    pub count: usize,
    pub width: usize,
}

/// Mixed-radix numbers: splits a flat row-major index and adds up strides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strided {
    /// (extent, stride), outermost first; adjacent dimensions that form one are merged.
    dims: Vec<(usize, isize)>,
}

impl Strided {
    pub fn new(dims: impl IntoIterator<Item = (usize, isize)>) -> Strided {
        let mut merged: Vec<(usize, isize)> = Vec::new();
        for (extent, stride) in dims.into_iter().filter(|d| d.0 != 1) {
            match merged.last_mut() {
                Some(last) if last.1 == stride * extent as isize => *last = (last.0 * extent, stride),
                _ => merged.push((extent, stride)),
            }
        }
        Strided { dims: merged }
    }

    /// The offset of a flat index.
    pub fn offset(&self, mut index: usize) -> isize {
        let Some((&(_, first), rest)) = self.dims.split_first() else {
            return 0;
        };
        let mut offset = 0;
        for &(extent, stride) in rest.iter().rev() {
            offset += (index % extent) as isize * stride;
            index /= extent;
        }
        offset + index as isize * first
    }

    /// The one stride of all indices, if there is one.
    pub fn uniform(&self) -> Option<isize> {
        match self.dims[..] {
            [] => Some(0),
            [(_, stride)] => Some(stride),
            _ => None,
        }
    }

    /// Calls `each(done, length, offset, stride)` for the runs of the innermost dimension that make up `count` indices.
    pub fn runs(&self, first: usize, count: usize, mut each: impl FnMut(usize, usize, isize, isize)) {
        let (extent, stride) = match self.dims[..] {
            [] => (usize::MAX, 0),
            [(_, stride)] => (usize::MAX, stride),
            [.., last] => last,
        };
        let mut done = 0;
        while done < count {
            let index = first + done;
            let len = (extent - index % extent).min(count - done);
            each(done, len, self.offset(index), stride);
            done += len;
        }
    }

    pub fn is_zero(&self) -> bool {
        self.dims.iter().all(|d| d.1 == 0)
    }
}

/// A matrix with one row stride; its terms lie in runs of one stride.
pub(crate) struct Matrix {
    /// Where it starts in its operand.
    pub offset: isize,
    pub batch: Strided,
    pub row: isize,
    /// Offset of each run of `run` terms.
    pub runs: Runs,
    pub isa: Isa,
}

/// Where the terms of a row lie.
pub(crate) enum Runs {
    /// All terms at one stride.
    One(isize),
    /// Term `t` at `starts[t / len] + (t % len) * step`.
    Many { starts: Vec<isize>, len: usize, step: isize },
}

impl Source for Matrix {
    unsafe fn pack(&self, base: *const f32, batch: usize, rows: Rows, k0: usize, k: usize, dst: *mut f32) {
        debug_assert!(k <= KC);
        let base = base.wrapping_offset(self.batch_offset(batch) + rows.first as isize * self.row);
        let copy = |offset: isize, step: isize, first: usize, len: usize| {
            let from = base.wrapping_offset(offset);
            let dst = dst.wrapping_add(first * rows.width);
            // SAFETY: the run lies within the rows and terms that the caller vouches for.
            unsafe {
                if self.row == 1 {
                    pack_adjacent(from, rows.count, step, len, dst, rows.width, self.isa);
                } else {
                    let mut starts = [from; MAX_WIDTH];
                    for (r, start) in starts[..rows.count].iter_mut().enumerate() {
                        *start = from.wrapping_offset(r as isize * self.row);
                    }
                    pack_rows(&starts[..rows.count], step, len, dst, rows.width, self.isa);
                }
            }
        };
        match &self.runs {
            Runs::One(step) => copy(k0 as isize * step, *step, 0, k),
            Runs::Many { starts, len, step } => {
                let mut done = 0;
                while done < k {
                    let (run, within) = ((k0 + done) / len, (k0 + done) % len);
                    let part = (len - within).min(k - done);
                    copy(starts[run] + within as isize * step, *step, done, part);
                    done += part;
                }
            }
        }
    }

    fn strides(&self) -> Option<(isize, isize)> {
        match self.runs {
            Runs::One(step) => Some((self.row, step)),
            Runs::Many { .. } => None,
        }
    }

    fn batch_offset(&self, batch: usize) -> isize {
        self.offset + self.batch.offset(batch)
    }

    fn is_shared_by_batches(&self) -> bool {
        self.batch.is_zero()
    }
}
