//! A large table of which few rows are not zeros, made box by box where it is read.

use super::access::{Walk, offset_at};
use crate::movement::{begins, row_of};

/// What [`RowSums`](crate::movement::RowSums) left of a table.
#[derive(Clone, Debug)]
pub(crate) struct SparseRows {
    /// Operands.
    pub(crate) keys: usize,
    pub(crate) sums: usize,
    /// Number of keys.
    pub(crate) count: usize,
    /// Elements of a row.
    pub(crate) width: usize,
    /// How the iteration walks the table.
    pub(crate) strides: Vec<isize>,
}

impl SparseRows {
    /// Writes the elements of a box.
    ///
    /// # Safety
    /// `dst` holds the box's elements; the operands are as `RowSums` left them.
    pub(crate) unsafe fn fill(&self, dst: *mut f32, origin: &[usize], shape: &[usize], operands: &[*mut u8]) {
        let base = offset_at(origin, &self.strides);
        // SAFETY: the caller's promise.
        let (keys, sums) = unsafe {
            let keys = std::slice::from_raw_parts(operands[self.keys].cast::<u64>(), self.count);
            (keys, std::slice::from_raw_parts(operands[self.sums].cast::<f32>(), self.count * self.width))
        };
        let walk = Walk::new(shape, &self.strides);
        let (n, stride) = walk.inner();
        let mut d = dst;
        walk.rows(|offset| {
            let start = base + offset;
            // SAFETY: the rows of a box follow each other in `dst`.
            let target = unsafe { std::slice::from_raw_parts_mut(d, n) };
            if stride == 1 {
                self.stretch(target, start as usize, keys, sums);
            } else {
                for (i, element) in target.chunks_mut(1).enumerate() {
                    self.stretch(element, (start + i as isize * stride) as usize, keys, sums);
                }
            }
            // SAFETY: as above.
            d = unsafe { d.add(n) };
        });
    }

    /// Elements of the table from `start` on.
    fn stretch(&self, target: &mut [f32], start: usize, keys: &[u64], sums: &[f32]) {
        target.fill(0.0);
        let (end, first) = (start + target.len(), start / self.width);
        let before = keys.partition_point(|&key| row_of(key) < first);
        for at in before..keys.len() {
            let begin = row_of(keys[at]) * self.width;
            if begin >= end {
                break;
            }
            if begins(keys, at) {
                let (from, to) = (start.max(begin), end.min(begin + self.width));
                target[from - start..to - start].copy_from_slice(&sums[at * self.width..][from - begin..to - begin]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Boxes of several rows and one column, as the edge of a product's tile has them, among others.
    #[test]
    fn boxes_of_every_shape_have_the_elements_of_the_table() {
        let (width, mut keys) = (5, [7_u64 << 32 | 1, 2 << 32, 2 << 32 | 3, u64::from(u32::MAX) << 32 | 2]);
        keys.sort_unstable();
        let sums: Vec<f32> = (1..=20).map(|i| i as f32).collect();
        let mut table = vec![0_f32; 9 * width];
        table[2 * width..3 * width].copy_from_slice(&sums[..width]);
        table[7 * width..8 * width].copy_from_slice(&sums[2 * width..3 * width]);
        let rows = SparseRows { keys: 0, sums: 1, count: keys.len(), width, strides: vec![width as isize, 1] };
        let operands = [keys.as_ptr().cast_mut().cast(), sums.as_ptr().cast_mut().cast()];
        for (origin, shape) in [([0, 0], [9, 5]), ([1, 2], [7, 1]), ([2, 1], [1, 3]), ([6, 3], [2, 2]), ([7, 4], [1, 1])] {
            let mut found = vec![9_f32; shape[0] * shape[1]];
            // SAFETY: room for the box, which lies in the table; keys and sums are as documented.
            unsafe { rows.fill(found.as_mut_ptr(), &origin, &shape, &operands) };
            let row = |i: usize| &table[(origin[0] + i) * width + origin[1]..][..shape[1]];
            assert_eq!(found, (0..shape[0]).flat_map(row).copied().collect::<Vec<f32>>(), "{origin:?} {shape:?}");
        }
    }
}
