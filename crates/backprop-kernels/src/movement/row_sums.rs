use super::index::Indices;
use crate::{DType, Kernel};

/// Sums of the updates of each row of a large table of which few rows have any: the sparse form of a [`ScatterAdd`](super::ScatterAdd) to
/// zeros, which [`TileProgram::sparse_rows`](crate::TileProgram::sparse_rows) reads as the whole table.
///
/// Operands: indices, updates `[count, width]` in `F32`; then keys `[count]` in `U64` and sums `[count, width]`. A key is a row in the upper
/// half and the number of an update in the lower one; keys are sorted, and rows that the table lacks are `u32::MAX`. Where the first key
/// of a row is, the row of sums is that of all its updates, added to zero in order; where the others are, it is zeros.
pub struct RowSums {
    rows: usize,
    width: usize,
    count: usize,
    index: DType,
    /// Keys of a task.
    block: usize,
}

/// Elements a task adds.
const ADDED: usize = 16_384;

impl RowSums {
    /// Plans the sums of `count` updates of `width` elements to a table of that many rows. `None` if there are too many of them for a key, or
    /// the index type is no integer.
    pub fn new([rows, width, count]: [usize; 3], index: DType) -> Option<RowSums> {
        let counted = rows < u32::MAX as usize && count < u32::MAX as usize;
        (counted && Indices::supports(index)).then_some(RowSums {
            rows,
            width,
            count,
            index,
            block: (ADDED / width.max(1)).max(1),
        })
    }

    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn sort(&self, operands: &[*mut u8]) {
        let indices = Indices { dtype: self.index, address: operands[0] };
        // SAFETY: the caller's promise; nobody else holds the keys.
        let keys = unsafe { std::slice::from_raw_parts_mut(operands[2].cast::<u64>(), self.count) };
        for (number, key) in keys.iter_mut().enumerate() {
            // SAFETY: as many indices as updates.
            let index = unsafe { indices.at(number) };
            let row = usize::try_from(index).ok().filter(|&row| row < self.rows).map_or(u32::MAX, |row| row as u32);
            *key = u64::from(row) << 32 | number as u64;
        }
        keys.sort_unstable();
    }

    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn sum(&self, task: usize, operands: &[*mut u8]) {
        let (first, last) = (task * self.block, ((task + 1) * self.block).min(self.count));
        // SAFETY: the caller's promise; the keys were written by the stage before, the sums of a block are this task's.
        unsafe {
            let keys = std::slice::from_raw_parts(operands[2].cast::<u64>(), self.count);
            let updates = std::slice::from_raw_parts(operands[1].cast::<f32>(), self.count * self.width);
            let sums = operands[3].cast::<f32>().add(first * self.width);
            let sums = std::slice::from_raw_parts_mut(sums, (last - first) * self.width);
            sums.fill(0.0);
            for at in (first..last).filter(|&at| begins(keys, at)) {
                let sum = &mut sums[(at - first) * self.width..][..self.width];
                for key in keys[at..].iter().take_while(|&key| row_of(*key) == row_of(keys[at])) {
                    let update = &updates[(*key & u64::from(u32::MAX)) as usize * self.width..][..self.width];
                    sum.iter_mut().zip(update).for_each(|(s, &u)| *s += u);
                }
            }
        }
    }
}

/// The row of a key.
pub(crate) fn row_of(key: u64) -> usize {
    (key >> 32) as usize
}

/// Whether a key is the first of a row that the table has.
pub(crate) fn begins(keys: &[u64], at: usize) -> bool {
    let row = row_of(keys[at]);
    row != u32::MAX as usize && (at == 0 || row_of(keys[at - 1]) != row)
}

impl Kernel for RowSums {
    fn stages(&self) -> usize {
        2
    }

    fn tasks(&self, stage: usize) -> usize {
        if stage == 0 { usize::from(self.count > 0) } else { self.count.div_ceil(self.block) }
    }

    unsafe fn run(&self, stage: usize, task: usize, operands: &[*mut u8], _workspace: *mut u8, _scratch: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe {
            match stage {
                0 => self.sort(operands),
                _ => self.sum(task, operands),
            }
        }
    }
}
