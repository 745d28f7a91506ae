//! Convolutions whose groups have one feature each: vectors run over the groups.

use std::sync::Arc;

use super::chains::{ChainsFn, QUAD, Quad, Segment, ZEROS, chains_for};
use super::patches::{Patches, Start};
use super::spec::{Groups, Phase};
use crate::gemm::plan::Extents;
use crate::gemm::source::{Rows, Strided};
use crate::gemm::{Epilogue, KC, round64};
use crate::{Isa, Kernel};

/// Groups of a task at most.
const COLS: usize = 256;
/// Multiply-adds of a task; they run at the speed of loads, not of arithmetic.
const TASK: usize = 1 << 18;

/// A planned depthwise convolution.
pub(super) struct Depthwise {
    x: Extents,
    groups: Groups,
    patches: Patches,
    rhs: isize,
    rhs_channel: isize,
    /// Offset of each window position in rhs.
    rhs_window: Strided,
    /// Output offset of each row.
    out: Strided,
    rows_per_task: usize,
    splits: usize,
    epilogue: Option<Arc<dyn Epilogue>>,
    chains: ChainsFn,
}

impl Depthwise {
    /// Plans a convolution whose groups have one feature each and adjacent inputs; `out` gives the rows' offsets.
    pub fn new(phase: &Phase, patches: Patches, out: Strided, epilogue: Option<Arc<dyn Epilogue>>, isa: Isa) -> Depthwise {
        let spec = &phase.spec;
        let groups = phase.groups;
        let x = Extents { batch: groups.count, m: spec.positions(), n: 1, k: spec.terms() };
        let splits = x.splits();
        let unit = groups.count.min(COLS) * x.k.div_ceil(splits);
        let rows_per_task = (TASK / unit.max(1)).max(1).next_multiple_of(QUAD).min(64);
        Depthwise {
            x,
            groups,
            patches,
            rhs: phase.rhs,
            rhs_channel: spec.rhs_channel,
            rhs_window: Strided::new(spec.spatial.iter().map(|d| (d.window, d.rhs))),
            out,
            rows_per_task,
            splits,
            epilogue,
            chains: chains_for(isa),
        }
    }

    /// Whether the weights of adjacent groups must first be brought side by side.
    fn packs(&self) -> bool {
        self.groups.rhs != 1
    }

    fn in_place(&self) -> bool {
        self.epilogue.is_none() && self.splits == 1 && self.groups.out == 1
    }

    fn packed(&self) -> usize {
        if self.packs() { round64(4 * self.x.k * self.groups.count) } else { 0 }
    }

    fn row_blocks(&self) -> usize {
        self.x.m.div_ceil(self.rows_per_task)
    }

    fn col_blocks(&self) -> usize {
        self.groups.count.div_ceil(COLS)
    }

    fn phase(&self, stage: usize) -> usize {
        stage + usize::from(!self.packs())
    }

    fn partial(&self, workspace: *mut u8, split: usize, row: usize) -> *mut f32 {
        workspace.wrapping_add(self.packed()).cast::<f32>().wrapping_add((split * self.x.m + row) * self.groups.count)
    }

    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn pack(&self, term: usize, operands: &[*mut u8], workspace: *mut u8) {
        let from = operands[1].cast::<f32>().wrapping_offset(self.rhs_offset(term));
        let to = workspace.cast::<f32>().wrapping_add(term * self.groups.count);
        for g in 0..self.groups.count {
            // SAFETY: the term and the group lie within the weights, and in the packed copy.
            unsafe { *to.add(g) = *from.offset(g as isize * self.groups.rhs) };
        }
    }

    fn rhs_offset(&self, term: usize) -> isize {
        let channels = self.patches.channels;
        self.rhs + self.rhs_window.offset(term / channels) + (term % channels) as isize * self.rhs_channel
    }

    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn compute(&self, task: usize, operands: &[*mut u8], workspace: *mut u8, scratch: *mut u8) {
        let (col_block, rest) = (task % self.col_blocks(), task / self.col_blocks());
        let (row_block, split) = (rest % self.row_blocks(), rest / self.row_blocks());
        let col0 = col_block * COLS;
        let cols = (self.groups.count - col0).min(COLS);
        let row0 = row_block * self.rows_per_task;
        let rows = (self.x.m - row0).min(self.rows_per_task);
        let chunks = self.x.chunks();
        let tile: *mut f32 = scratch.cast();
        let padding = Segment { lhs: [(ZEROS.as_ptr(), 0); QUAD], rhs: std::ptr::null(), terms: 0 };
        let mut segments = [padding; KC];
        for quad in (0..rows).step_by(QUAD) {
            let count = (rows - quad).min(QUAD);
            let to = std::array::from_fn(|i| {
                let row = row0 + quad + i.min(count - 1);
                if self.splits > 1 {
                    self.partial(workspace, split, row).wrapping_add(col0)
                } else if self.in_place() {
                    operands[operands.len() - 1].cast::<f32>().wrapping_offset(self.out.offset(row) + col0 as isize)
                } else {
                    tile.wrapping_add((row - row0) * COLS)
                }
            });
            let (first, last) = (split * chunks / self.splits, (split + 1) * chunks / self.splits);
            // SAFETY: as the caller vouches; the destinations are this task's own.
            unsafe { self.quad(row0 + quad, count, col0, cols, first..last, to, operands, workspace, &mut segments) };
        }
        if self.splits == 1 && !self.in_place() {
            let scratch = scratch.wrapping_add(self.tile_bytes());
            // SAFETY: the tile holds the finished rows.
            unsafe { self.finish([row0, rows, col0, cols], tile, COLS, operands, scratch) };
        }
    }

    /// All chunks of a split for at most [`QUAD`] rows.
    ///
    /// # Safety
    /// As [`Kernel::run`]; `to` is valid for `cols` elements each.
    #[expect(clippy::too_many_arguments, reason = "a rectangle of the output, a range of terms, and the memory")]
    unsafe fn quad(
        &self,
        row0: usize,
        rows: usize,
        col0: usize,
        cols: usize,
        chunks: std::ops::Range<usize>,
        to: [*mut f32; QUAD],
        operands: &[*mut u8],
        workspace: *mut u8,
        segments: &mut [Segment; KC],
    ) {
        let lhs = operands[0].cast::<f32>().cast_const().wrapping_add(col0);
        let mut starts = [Start::default(); crate::gemm::pack::MAX_WIDTH];
        self.patches.starts(Rows { first: row0, count: rows, width: rows }, &mut starts);
        let (channels, channel) = (self.patches.channels, self.patches.channel);
        let first_chunk = chunks.start;
        for chunk in chunks {
            let (mut term, end) = (chunk * KC, self.x.k.min((chunk + 1) * KC));
            let mut count = 0;
            while term < end {
                let (position, within) = (term / channels, term % channels);
                let window = self.patches.window(position);
                let segment = &mut segments[count];
                segment.terms = (channels - within).min(end - term);
                segment.rhs = if self.packs() {
                    workspace.cast::<f32>().wrapping_add(term * self.groups.count + col0)
                } else {
                    operands[1].cast::<f32>().wrapping_offset(self.rhs_offset(term) + col0 as isize)
                };
                for (lhs_of_row, start) in segment.lhs.iter_mut().zip(&starts[..rows]) {
                    *lhs_of_row = match self.patches.element(start, &window) {
                        Some(offset) => (lhs.wrapping_offset(offset + within as isize * channel), usize::MAX),
                        None => (ZEROS.as_ptr(), 0),
                    };
                }
                term += segment.terms;
                count += 1;
            }
            let rhs_step = if self.packs() { self.groups.count as isize } else { self.rhs_channel };
            let add = chunk > first_chunk;
            let quad = Quad { segments: &segments[..count], lhs_step: channel, rhs_step, lanes: cols, to, rows, add };
            // SAFETY: every address is that of an element of an operand (or of the zeros, where no offset counts).
            unsafe { (self.chains)(&quad) };
        }
    }

    fn tile_bytes(&self) -> usize {
        if self.in_place() || self.splits > 1 { 0 } else { round64(4 * self.rows_per_task * COLS) }
    }

    /// Adds the parts of one row in a fixed tree and finishes it.
    ///
    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn combine(&self, row: usize, operands: &[*mut u8], workspace: *mut u8, scratch: *mut u8) {
        let cols = self.groups.count;
        let mut step = 1;
        while step < self.splits {
            for left in (0..self.splits - step).step_by(2 * step) {
                let (to, from) = (self.partial(workspace, left, row), self.partial(workspace, left + step, row));
                for c in 0..cols {
                    // SAFETY: this row of both parts, this task's alone.
                    unsafe { *to.add(c) += *from.add(c) };
                }
            }
            step *= 2;
        }
        // SAFETY: the first part now holds the finished row.
        unsafe { self.finish([row, 1, 0, cols], self.partial(workspace, 0, row), cols, operands, scratch) };
    }

    /// Hands finished `[row0, rows, col0, cols]` to the epilogue, or stores them.
    ///
    /// # Safety
    /// As [`Kernel::run`]; `tile` holds them, its rows `ld` elements apart.
    unsafe fn finish(&self, area: [usize; 4], tile: *const f32, ld: usize, operands: &[*mut u8], scratch: *mut u8) {
        let [row0, rows, col0, cols] = area;
        if let Some(epilogue) = &self.epilogue {
            // SAFETY: as the caller vouches.
            return unsafe { epilogue.apply(0, row0, rows, col0, cols, tile, ld, operands, scratch) };
        }
        for r in 0..rows {
            let to = operands[operands.len() - 1].cast::<f32>().wrapping_offset(self.out.offset(row0 + r));
            for c in 0..cols {
                // SAFETY: a row and group of the output.
                unsafe { *to.offset((col0 + c) as isize * self.groups.out) = *tile.add(r * ld + c) };
            }
        }
    }
}

impl Kernel for Depthwise {
    fn stages(&self) -> usize {
        1 + usize::from(self.packs()) + usize::from(self.splits > 1)
    }

    fn tasks(&self, stage: usize) -> usize {
        if self.x.outputs() == 0 {
            return 0;
        }
        match self.phase(stage) {
            0 => self.x.k,
            1 => self.row_blocks() * self.col_blocks() * self.splits,
            _ => self.x.m,
        }
    }

    fn workspace(&self) -> usize {
        let partials = if self.splits > 1 { self.splits * self.x.outputs() } else { 0 };
        self.packed() + round64(4 * partials)
    }

    fn scratch(&self) -> usize {
        self.tile_bytes() + self.epilogue.as_ref().map_or(0, |e| e.scratch())
    }

    unsafe fn run(&self, stage: usize, task: usize, operands: &[*mut u8], workspace: *mut u8, scratch: *mut u8) {
        // SAFETY: as the caller vouches.
        unsafe {
            match self.phase(stage) {
                0 => self.pack(task, operands, workspace),
                1 => self.compute(task, operands, workspace, scratch),
                _ => self.combine(task, operands, workspace, scratch),
            }
        }
    }
}
