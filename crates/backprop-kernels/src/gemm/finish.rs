//! What happens to finished sums: the parts of a split sum are added, then the epilogue takes them or they are stored.

use std::sync::Arc;

use super::epilogue::Epilogue;
use super::pack::store_transposed;
use super::plan::Extents;
use super::source::Strided;

/// Elements a task that adds parts moves: about 20 µs.
const MOVED: usize = 1 << 16;

/// Where results go; with an epilogue only the tiles' coordinates matter.
#[derive(Clone)]
pub(crate) struct Output {
    pub offset: isize,
    pub batch: Strided,
    pub row: Strided,
    pub col: Strided,
    pub logical: Logical,
}

/// The coordinates that the epilogue sees, where they are not those of the product.
#[derive(Clone, Default)]
pub(crate) struct Logical {
    /// Batches stand side by side in one row, each with so many columns.
    pub cols_of_batch: Option<usize>,
    /// The first row and the strides of the product's rows.
    pub row: Option<(usize, Strided)>,
}

/// Rectangle of one batch of the output.
#[derive(Clone, Copy)]
pub(crate) struct Area {
    pub batch: usize,
    pub row0: usize,
    pub rows: usize,
    pub col0: usize,
    pub cols: usize,
}

/// The last step of a product.
pub(crate) struct Finish {
    pub x: Extents,
    pub out: Output,
    pub epilogue: Option<Arc<dyn Epilogue>>,
    pub simd: bool,
}

impl Finish {
    /// Whether registers can be stored to the output itself, at one distance between rows, without a tile in between.
    pub fn in_place(&self) -> Option<isize> {
        let plain = self.epilogue.is_none() && self.x.splits() == 1;
        let row = self.out.row.uniform()?;
        (plain && (self.out.col.uniform() == Some(1) || self.x.n == 1)).then_some(row)
    }

    /// Bytes of private memory of the epilogue.
    pub fn scratch(&self) -> usize {
        self.epilogue.as_ref().map_or(0, |e| e.scratch())
    }

    /// The output's first element of a batch, where there is no epilogue.
    pub fn output(&self, batch: usize, operands: &[*mut u8]) -> *mut f32 {
        let out = operands.last().map_or(std::ptr::null_mut(), |p| p.cast::<f32>());
        out.wrapping_offset(self.out.offset + self.out.batch.offset(batch))
    }

    fn combine_rows(&self) -> usize {
        (MOVED / (self.x.n * self.x.splits()).max(1)).clamp(1, self.x.m.max(1))
    }

    /// Tasks of adding the parts of a split sum.
    pub fn combine_tasks(&self) -> usize {
        if self.x.splits() > 1 && self.x.outputs() > 0 { self.x.batch * self.x.m.div_ceil(self.combine_rows()) } else { 0 }
    }

    /// Adds the parts of some rows in a fixed tree and finishes them.
    ///
    /// # Safety
    /// As [`Kernel::run`](crate::Kernel::run); `partials` holds all parts as [split][batch][row][column].
    pub unsafe fn combine(&self, task: usize, partials: *mut f32, operands: &[*mut u8], scratch: *mut u8) {
        let (x, per_task) = (self.x, self.combine_rows());
        let tasks = x.m.div_ceil(per_task);
        let (batch, row0) = (task / tasks, task % tasks * per_task);
        let rows = (x.m - row0).min(per_task);
        let first = partials.wrapping_add((batch * x.m + row0) * x.n);
        let part = |split: usize| first.wrapping_add(split * x.outputs());
        let (mut step, splits) = (1, x.splits());
        while step < splits {
            for left in (0..splits - step).step_by(2 * step) {
                // SAFETY: the parts are disjoint, and these rows of them are this task's alone.
                let (left, right) = unsafe {
                    (
                        std::slice::from_raw_parts_mut(part(left), rows * x.n),
                        std::slice::from_raw_parts(part(left + step), rows * x.n),
                    )
                };
                left.iter_mut().zip(right).for_each(|(l, r)| *l += r);
            }
            step *= 2;
        }
        // SAFETY: the first part now holds the finished rows.
        unsafe { self.area(Area { batch, row0, rows, col0: 0, cols: x.n }, first, x.n, operands, scratch) };
    }

    /// Hands finished rows to the epilogue, or stores them.
    ///
    /// # Safety
    /// As [`Kernel::run`](crate::Kernel::run), with the epilogue's scratch; `tile` holds the area, its rows `ld` elements apart.
    pub unsafe fn area(&self, area: Area, tile: *const f32, ld: usize, operands: &[*mut u8], scratch: *mut u8) {
        let Area { batch, row0, rows, col0, cols } = area;
        if let Some(epilogue) = &self.epilogue {
            return self.each_logical(area, |batch, row0, rows, col0, done| {
                let tile = tile.wrapping_add(done * ld);
                // SAFETY: as the caller vouches.
                unsafe { epilogue.apply(batch, row0, rows, col0, cols, tile, ld, operands, scratch) }
            });
        }
        let out = self.output(batch, operands);
        if let (Some(1), Some(col)) = (self.out.row.uniform(), self.out.col.uniform())
            && col > 1
        {
            let to = out.wrapping_offset(row0 as isize + col0 as isize * col);
            // SAFETY: the area lies in the tile and in the output.
            return unsafe { store_transposed(tile, ld, rows, cols, to, col as usize, self.simd) };
        }
        for r in 0..rows {
            let from = tile.wrapping_add(r * ld);
            let to = out.wrapping_offset(self.out.row.offset(row0 + r));
            // SAFETY: row r of the area, in the tile and in the output.
            unsafe { self.store_row(from, to, col0, cols) };
        }
    }

    /// Asks for what the epilogue will need of an area, so that it is in the cache when the sums are finished.
    pub fn fetch(&self, area: Area, operands: &[*mut u8]) {
        if let Some(epilogue) = &self.epilogue {
            self.each_logical(area, |batch, row0, rows, col0, _| epilogue.fetch(batch, row0, rows, col0, area.cols, operands));
        }
    }

    /// Calls `each(batch, first row, rows, first column, rows done)` with the epilogue's coordinates of the parts of an area.
    fn each_logical(&self, area: Area, mut each: impl FnMut(usize, usize, usize, usize, usize)) {
        let logical = &self.out.logical;
        let (batch, col0) = match logical.cols_of_batch {
            Some(width) => (0, area.batch * width + area.col0),
            None => (area.batch, area.col0),
        };
        match &logical.row {
            None => each(batch, area.row0, area.rows, col0, 0),
            Some((first, map)) => {
                for r in 0..area.rows {
                    each(batch, (*first as isize + map.offset(area.row0 + r)) as usize, 1, col0, r);
                }
            }
        }
    }

    /// # Safety
    /// `from` holds `cols` values; `to` is the start of an output row.
    unsafe fn store_row(&self, from: *const f32, to: *mut f32, col0: usize, cols: usize) {
        // SAFETY: as the caller vouches.
        self.out.col.runs(col0, cols, |at, len, offset, stride| unsafe {
            if stride == 1 {
                std::ptr::copy_nonoverlapping(from.add(at), to.offset(offset), len);
            } else {
                (0..len).for_each(|c| *to.offset(offset + c as isize * stride) = *from.add(at + c));
            }
        });
    }
}
