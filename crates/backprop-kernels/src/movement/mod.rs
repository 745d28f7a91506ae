//! Moving elements without computing: strided copies (transpose, slice, reverse, broadcast, concatenate, pad), gathers, scatters
//! and slices whose position is read at run time. Shapes are those of row-major tensors; strides and offsets are in elements.

mod boxes;
mod copy;
mod dynamic;
mod gather;
mod index;
mod row_sums;
mod scatter;

pub use copy::{CopyPart, FillValue, StridedCopy};
pub use dynamic::{DynamicSlice, DynamicUpdateSlice};
pub use gather::{Gather, GatherSpec};
pub use row_sums::RowSums;
pub(crate) use row_sums::{begins, row_of};
pub use scatter::{ScatterAdd, ScatterSpec};

/// Row-major strides of a shape.
pub(crate) fn row_major(dims: &[usize]) -> Vec<isize> {
    let mut strides = vec![1; dims.len()];
    for d in (1..dims.len()).rev() {
        strides[d - 1] = strides[d] * dims[d] as isize;
    }
    strides
}

#[cfg(test)]
mod tests;
