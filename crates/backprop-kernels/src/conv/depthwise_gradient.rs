//! Weight gradients of depthwise convolutions: vectors run over the groups, sums over the positions.

use std::ops::Range;
use std::sync::Arc;

use super::chains::{Chains, Collect, Line, TAPS};
use super::spec::Phase;
use super::terms::{Dim, Runs};
use crate::Isa;
use crate::gemm::driver::Memory;
use crate::gemm::finish::{Area, Finish, Output};
use crate::gemm::parts::Phased;
use crate::gemm::plan::Extents;
use crate::gemm::{Epilogue, KC, round64};

/// Groups of a block: two pairs of the longest vectors.
const COLS: usize = 64;

/// Positions that are computed while memory answers.
const AHEAD: usize = 64;

/// A planned convolution with one feature to a group and a window larger than its output.
pub(super) struct DepthwiseGradient {
    /// Rows are taps, columns are groups, terms are positions.
    x: Extents,
    /// Across the taps' rows, their rows and their columns.
    outer: Vec<Dim>,
    rows: Dim,
    cols: Dim,
    /// All of them again.
    dims: Vec<Dim>,
    finish: Finish,
    chains: &'static Chains,
    rhs: isize,
    ahead: Vec<isize>,
    ahead_y: isize,
}

impl DepthwiseGradient {
    /// Plans it for groups of one batch, one channel and one feature whose operands are adjacent.
    pub fn new(phase: &Phase, out: Output, epilogue: Option<Arc<dyn Epilogue>>, isa: Isa) -> DepthwiseGradient {
        let (spec, groups) = (&phase.spec, phase.groups);
        let x = Extents { batch: 1, n: groups.count, ..phase.extents() };
        let dims = Dim::all(spec);
        let mut outer = dims.clone();
        let cols = outer.pop().unwrap_or(Dim::UNIT);
        let rows = outer.pop().unwrap_or(Dim::UNIT);
        let lines = AHEAD.div_ceil(cols.terms.max(1)) as isize;
        DepthwiseGradient {
            x,
            ahead: ahead(&rows, &cols, lines),
            ahead_y: lines * rows.rhs,
            outer,
            rows,
            cols,
            dims,
            finish: Finish { x, out, epilogue, simd: isa != Isa::Portable },
            chains: Chains::of(isa),
            rhs: phase.rhs,
        }
    }

    fn blocks(&self) -> usize {
        self.x.n.div_ceil(COLS)
    }

    /// Bytes of the sums of a block.
    fn sums_bytes(&self) -> usize {
        round64(4 * self.x.m * self.x.n.min(COLS))
    }

    /// The runs of a chunk as lines, for the rows of taps from `row` on whose place in the outer dimensions is the `tap`th.
    fn lines<'l>(
        &self,
        runs: &Runs,
        tap: usize,
        rows: Range<usize>,
        (x, y): (*const f32, *const f32),
        lines: &'l mut [Line; KC],
    ) -> &'l [Line] {
        let mut count = 0;
        let mut taps = [0; super::patches::MAX_RANK];
        let mut rest = tap;
        for (tap, dim) in taps.iter_mut().zip(&self.outer).rev() {
            *tap = (rest % dim.taps) as isize * dim.tap_step;
            rest /= dim.taps;
        }
        let has_rows = self.dims.len() > 1;
        'runs: for run in runs.all() {
            let mut offset = (self.cols.origin + run.start as isize * self.cols.term_step) * self.cols.lhs;
            for ((dim, at), tap) in self.outer.iter().zip(run.outer).zip(taps) {
                // A negative position is huge as an unsigned number.
                if (at + tap) as usize >= dim.input {
                    continue 'runs;
                }
                offset += (at + tap) * dim.lhs;
            }
            let place = if has_rows { run.outer[self.outer.len()] } else { 0 };
            let met = self.rows.taps_at(place, rows.start, rows.len());
            if met.is_empty() {
                continue;
            }
            offset += (place + rows.start as isize * self.rows.tap_step) * self.rows.lhs;
            let (x, y) = (x.wrapping_offset(offset), y.wrapping_offset(run.rhs));
            lines[count] = Line { x, y, rows: (met.start, met.end), first: run.start, count: run.len };
            count += 1;
        }
        &lines[..count]
    }

    /// The sums of one chunk: rows of `to` are `ld` apart.
    ///
    /// # Safety
    /// As [`Phased::run`]; `to` has room for a block.
    unsafe fn chunk(&self, runs: &Runs, col0: usize, operands: &[*mut u8], (to, ld): (*mut f32, usize), add: bool) {
        let (rows, cols) = (&self.rows, &self.cols);
        let x = operands[0].cast::<f32>().cast_const().wrapping_add(col0);
        let y = operands[1].cast::<f32>().cast_const().wrapping_offset(self.rhs).wrapping_add(col0);
        let mut lines = [Line { x, y, rows: (0, 0), first: 0, count: 0 }; KC];
        let outer: usize = self.outer.iter().map(|dim| dim.taps).product();
        for tap in 0..outer {
            for row in (0..rows.taps).step_by(TAPS) {
                let height = (rows.taps - row).min(TAPS);
                let lines = self.lines(runs, tap, row..row + height, (x, y), &mut lines);
                for col in (0..cols.taps).step_by(TAPS) {
                    let width = (cols.taps - col).min(TAPS);
                    let (first, last) = (cols.valid(col), cols.valid(col + width - 1));
                    let shift = col as isize * cols.tap_step;
                    let fetch = tap + row + col == 0;
                    let number = (tap * rows.taps + row) * cols.taps + col;
                    let collect = Collect {
                        lines,
                        shift: shift * cols.lhs,
                        tap: [rows.tap_step * rows.lhs, cols.tap_step * cols.lhs],
                        x_step: cols.term_step * cols.lhs,
                        y_step: cols.rhs,
                        whole: first.start.max(last.start)..first.end.min(last.end),
                        place: [cols.origin + shift, cols.term_step, cols.tap_step],
                        input: cols.input,
                        to: to.wrapping_add(number * ld),
                        to_tap: [(cols.taps * ld) as isize, ld as isize],
                        add,
                        lanes: 0..(self.x.n - col0).min(COLS),
                        ahead: (if fetch { &self.ahead } else { &[] }, self.ahead_y),
                    };
                    // SAFETY: the lines' rows of taps meet the input, and the columns where their places lie in it.
                    unsafe { self.chains.collect(collect, height, width) };
                }
            }
        }
    }

    /// All chunks of a split for one block of groups.
    ///
    /// # Safety
    /// As [`Phased::run`].
    unsafe fn compute(&self, task: usize, memory: Memory<'_>) {
        let (x, splits) = (self.x, self.x.splits());
        let (col0, split) = (task % self.blocks() * COLS, task / self.blocks());
        let cols = (x.n - col0).min(COLS);
        let (to, ld) = if splits > 1 {
            (memory.workspace.cast::<f32>().wrapping_add(split * x.outputs() + col0), x.n)
        } else {
            (memory.scratch.cast::<f32>(), cols)
        };
        let mut runs = Runs::new();
        let first = split * x.chunks() / splits;
        for chunk in first..(split + 1) * x.chunks() / splits {
            runs.fill(&self.dims, x.k, chunk);
            // SAFETY: the scratch has room for a block; the parts are this task's own.
            unsafe { self.chunk(&runs, col0, memory.operands, (to, ld), chunk > first) };
        }
        if splits == 1 {
            let area = Area { batch: 0, row0: 0, rows: x.m, col0, cols };
            let scratch = memory.scratch.wrapping_add(self.sums_bytes());
            // SAFETY: the total is finished.
            unsafe { self.finish.area(area, to, ld, memory.operands, scratch) };
        }
    }
}

/// Where the inputs are that the lines `lines` later are the first to meet, from the input of tap (0, 0) on; lines follow each
/// other in memory.
fn ahead(rows: &Dim, cols: &Dim, lines: isize) -> Vec<isize> {
    let first = (rows.taps.max(1) as isize - 1) * rows.tap_step + 1 + (lines - 1) * rows.term_step;
    let row = |at: isize| (first + at) * rows.lhs;
    (0..rows.term_step).flat_map(|at| (0..cols.term_step).map(move |col| row(at) + (col - cols.origin) * cols.lhs)).collect()
}

impl Phased for DepthwiseGradient {
    fn tasks(&self, phase: usize) -> usize {
        match phase {
            _ if self.x.outputs() == 0 => 0,
            0 => 0,
            1 => self.x.splits() * self.blocks(),
            _ => self.finish.combine_tasks(),
        }
    }

    fn sum_parts(&self) -> usize {
        self.x.splits.unwrap_or(1)
    }

    fn workspace(&self) -> usize {
        if self.x.splits() > 1 { round64(4 * self.x.splits() * self.x.outputs()) } else { 0 }
    }

    fn scratch(&self) -> usize {
        self.sums_bytes() + self.finish.scratch()
    }

    unsafe fn run(&self, phase: usize, task: usize, memory: Memory<'_>) {
        // SAFETY: as the caller vouches; for the last phase the parts are complete.
        unsafe {
            if phase == 2 {
                self.finish.combine(task, memory.workspace.cast(), memory.operands, memory.scratch);
            } else {
                self.compute(task, memory);
            }
        }
    }
}
