//! Convolutions whose window is larger than their output, weight gradients above all: few sums of very many terms.
//!
//! Rows are adjacent elements of lhs and columns adjacent elements of rhs at every term, so a register tile takes the addresses
//! of its terms. Terms in the padding are left out.

use std::ops::Range;
use std::sync::Arc;

use super::micro::{Scattered, Target, Term, Tiles};
use super::pad::Pad;
use super::patches::MAX_RANK;
use super::spec::Phase;
use super::terms::{Dim, Runs, starts};
use crate::Isa;
use crate::gemm::driver::Memory;
use crate::gemm::finish::{Area, Finish, Output};
use crate::gemm::pack::{copy_short, zero_rest};
use crate::gemm::parts::Phased;
use crate::gemm::plan::{Extents, SMALL};
use crate::gemm::{Epilogue, KC, round64};

/// Rows of a tap and columns of a block at most.
const BAND: usize = 64;
const COLS: usize = 64;
/// Blocks that are enough for two threads, and multiply-adds that are few enough for any number.
const UNITS: usize = 32;
const TASK: usize = 3 << 20;

/// Tiles that pay for a copy of a panel, and columns of a row from which on a copy does not pay.
const MANY_USES: usize = 9;
const FAR_COLS: usize = 256;

/// A planned convolution of that kind.
pub(super) struct Gradient {
    x: Extents,
    dims: Vec<Dim>,
    pad: Option<Pad>,
    /// Adjacent rows of a tap, and the taps that have rows of their own.
    rows: usize,
    taps: usize,
    /// Distance of adjacent rows, and of taps, in rows of the output.
    row_step: usize,
    tap_step: usize,
    lhs_group: isize,
    rhs_group: isize,
    rhs: isize,
    finish: Finish,
    tiles: &'static Tiles,
    band: usize,
    cols: usize,
    /// Columns are read where they lie.
    direct: bool,
    /// Every term of every tap meets the input.
    bounded: bool,
    units_per_task: usize,
}

/// The terms of a chunk that meet the input at a tap, those of tiles of one vector of columns and of two.
struct Lists {
    /// Their rows are those of tap 0.
    terms: [[Term; KC]; 2],
    counts: [Option<usize>; 2],
}

/// A block of the output and the chunks it sums.
struct Unit {
    batch: usize,
    split: usize,
    rows: Range<usize>,
    col0: usize,
    cols: usize,
    chunks: Range<usize>,
}

impl Gradient {
    /// Whether rows (those of all runs, so that a part is computed as the whole) and columns are adjacent and the input has no holes.
    pub fn fits(phase: &Phase) -> bool {
        let spec = &phase.spec;
        let holes = spec.spatial.iter().any(|d| d.lhs_dilation != 1);
        let adjacent = |stride: isize, extent: usize| stride == 1 || extent == 1;
        spec.channels == 1
            && !spec.spatial.is_empty()
            && !holes
            && adjacent(spec.lhs_batch, phase.runs * spec.batch)
            && adjacent(spec.rhs_feature, phase.groups.features)
    }

    /// Plans it for the input or a copy between zeros. Rows of `out` are numbered (batch, space), or (space, batch) where the
    /// batches of adjacent taps of the innermost dimension are adjacent rows.
    pub fn new(
        phase: &Phase,
        pad: Option<Pad>,
        merged: bool,
        out: Output,
        epilogue: Option<Arc<dyn Epilogue>>,
        isa: Isa,
    ) -> Gradient {
        let (spec, groups, tiles) = (&phase.spec, phase.groups, Tiles::of(isa));
        let mut dims = Dim::all(spec);
        let x = phase.extents();
        let mut rows = spec.batch;
        if let (true, Some(inner)) = (merged, dims.last_mut()) {
            rows *= std::mem::replace(&mut inner.taps, 1);
        }
        let taps: usize = dims.iter().map(|d| d.taps).product();
        let bounded = dims.iter().all(Dim::is_bounded);
        let (row_step, tap_step) = if merged { (1, rows) } else { (taps, 1) };
        let (band, cols) = block(x, rows, merged, tiles);
        // Copied columns stay in the first-level cache, which pays where many tiles use them; far apart they are better left.
        let uses = band.div_ceil(tiles.adjacent) * taps;
        let direct = x.n.is_multiple_of(tiles.lanes) && (uses < MANY_USES || x.n <= tiles.cols() || x.n >= FAR_COLS);
        let unit = band * taps * cols * x.k.div_ceil(x.splits());
        let units_per_task = if x.multiply_adds() <= SMALL { usize::MAX } else { (TASK / 4 / unit.max(1)).max(1) };
        // A task does not go beyond a sample's part of the sums.
        let units = rows.div_ceil(band) * x.n.div_ceil(cols);
        let units_per_task = match x.splits {
            Some(_) if units_per_task != usize::MAX => {
                (1..=units_per_task.min(units)).rfind(|n| units.is_multiple_of(*n)).unwrap_or(1)
            }
            _ => units_per_task,
        };
        Gradient {
            x,
            dims,
            pad,
            rows,
            taps,
            row_step,
            tap_step,
            lhs_group: groups.lhs,
            rhs_group: groups.rhs,
            rhs: phase.rhs,
            finish: Finish { x, out, epilogue, simd: isa != Isa::Portable },
            tiles,
            band,
            cols,
            direct,
            bounded,
            units_per_task,
        }
    }

    fn bands(&self) -> usize {
        self.rows.div_ceil(self.band)
    }

    /// So little work that one task does everything.
    fn is_small(&self) -> bool {
        self.units_per_task == usize::MAX
    }

    fn units(&self) -> usize {
        self.x.batch * self.x.splits() * self.x.n.div_ceil(self.cols) * self.bands()
    }

    fn depth(&self) -> usize {
        self.x.k.min(KC)
    }

    fn panels_bytes(&self) -> usize {
        round64(4 * self.cols * self.depth())
    }

    fn tile_bytes(&self) -> usize {
        if self.finish.in_place().is_some() || self.x.splits() > 1 { 0 } else { round64(4 * self.band * self.taps * self.cols) }
    }

    /// Copies the columns of a chunk into panels.
    ///
    /// # Safety
    /// As [`Phased::run`]; `to` has room for the panels.
    unsafe fn pack(&self, runs: &Runs, area: Area, rhs: *const f32, to: *mut f32) {
        let step = self.dims.last().map_or(0, |d| d.rhs);
        for run in runs.all() {
            let from = rhs.wrapping_offset(run.rhs);
            for (col, count, width) in self.tiles.panels(area.cols) {
                let to = to.wrapping_add(col * self.depth() + run.first * width);
                for i in 0..run.len {
                    let (from, to) = (from.wrapping_offset(i as isize * step).wrapping_add(col), to.wrapping_add(i * width));
                    // SAFETY: `count` adjacent columns of this term, and a row of the panel.
                    unsafe {
                        copy_short(from, to, count);
                        zero_rest(count, 1, to, width);
                    }
                }
            }
        }
    }

    /// Index of a tap in each dimension, the innermost last.
    fn places(&self, mut tap: usize) -> [usize; MAX_RANK] {
        let mut places = [0; MAX_RANK];
        for (place, dim) in places.iter_mut().zip(&self.dims).rev() {
            *place = tap % dim.taps;
            tap /= dim.taps;
        }
        places
    }

    /// From the rows of tap 0 to those of a tap.
    fn shift(&self, tap: usize) -> isize {
        self.places(tap).iter().zip(&self.dims).map(|(&at, dim)| at as isize * dim.tap_step * dim.lhs).sum()
    }

    /// The terms of a chunk that meet the input at a tap, with the rows of tap 0 and their columns `width` apart; returns their number.
    fn terms(&self, runs: &Runs, tap: usize, lhs: *const f32, width: usize, terms: &mut [Term; KC]) -> usize {
        let Some((inner, outer)) = self.dims.split_last() else { return 0 };
        let taps = self.places(tap);
        let valid = inner.valid(taps[outer.len()]);
        let mut count = 0;
        'runs: for run in runs.all() {
            let mut offset = 0;
            for ((dim, at), tap) in outer.iter().zip(run.outer).zip(taps) {
                // A negative position is huge as an unsigned number.
                if (at + tap as isize * dim.tap_step) as usize >= dim.input {
                    continue 'runs;
                }
                offset += at * dim.lhs;
            }
            let (low, end) = (valid.start.max(run.start), valid.end.min(run.start + run.len));
            let len = end.saturating_sub(low);
            let step = inner.term_step * inner.lhs;
            let first = lhs.wrapping_offset(offset + inner.origin * inner.lhs + low as isize * step);
            let skipped = low - run.start;
            let (b, b_step) = if self.direct {
                (run.rhs + skipped as isize * inner.rhs, inner.rhs)
            } else {
                (((run.first + skipped) * width) as isize, width as isize)
            };
            for (i, term) in terms[count..count + len].iter_mut().enumerate() {
                *term = Term { a: first.wrapping_offset(i as isize * step), b: b + i as isize * b_step };
            }
            count += len;
        }
        count
    }

    /// The block of a unit and its part of the sum.
    fn unit(&self, unit: usize) -> Unit {
        let (col_blocks, splits) = (self.x.n.div_ceil(self.cols), self.x.splits());
        let (band, rest) = (unit % self.bands(), unit / self.bands());
        let (col_block, rest) = (rest % col_blocks, rest / col_blocks);
        let (split, batch) = (rest % splits, rest / splits);
        let (row, col0) = (band * self.band, col_block * self.cols);
        let chunks = split * self.x.chunks() / splits..(split + 1) * self.x.chunks() / splits;
        Unit { batch, split, rows: row..self.rows.min(row + self.band), col0, cols: (self.x.n - col0).min(self.cols), chunks }
    }

    /// Where a block has its rows of tap 0 and its columns at the first term of a chunk, in lhs and rhs.
    fn starts(&self, unit: &Unit, chunk: usize) -> (isize, isize) {
        let batch = unit.batch as isize;
        let (a, b) = starts(&self.dims, chunk);
        (a + batch * self.lhs_group + unit.rows.start as isize, b + batch * self.rhs_group + unit.col0 as isize)
    }

    /// From the operands of a chunk to those that are read next.
    fn ahead(&self, number: usize, unit: &Unit, chunk: usize) -> (isize, isize) {
        let now = self.starts(unit, chunk);
        let next = if chunk + 1 < unit.chunks.end {
            self.starts(unit, chunk + 1)
        } else if number + 1 < self.units() {
            let next = self.unit(number + 1);
            // Another sample may be elsewhere.
            if self.x.splits.is_some() && next.split != unit.split { now } else { self.starts(&next, next.chunks.start) }
        } else {
            now
        };
        (next.0 - now.0, next.1 - now.1)
    }

    /// # Safety
    /// As [`Phased::run`].
    unsafe fn compute(&self, number: usize, (runs, lists): (&mut Runs, &mut Lists), memory: Memory<'_>) {
        let unit = self.unit(number);
        let (row, height) = (unit.rows.start, unit.rows.len());
        let (batch, col0, cols) = (unit.batch, unit.col0, unit.cols);
        let area = Area { batch, row0: row * self.taps, rows: height * self.taps, col0, cols };
        let (to, ld) = self.destination(area, unit.split, memory);
        let panels: *mut f32 = memory.scratch.cast();
        let lhs = if self.pad.is_some() { self.copy(memory.workspace) } else { memory.operands[0].cast() };
        let lhs = lhs.cast_const().wrapping_offset(batch as isize * self.lhs_group);
        let rhs = memory.operands[1].cast::<f32>().cast_const();
        let rhs = rhs.wrapping_offset(self.rhs + batch as isize * self.rhs_group + col0 as isize);
        for chunk in unit.chunks.clone() {
            runs.fill(&self.dims, self.x.k, chunk);
            if !self.direct {
                // SAFETY: the scratch has room for the panels of a chunk.
                unsafe { self.pack(runs, area, rhs, panels) };
            }
            let b = if self.direct { rhs } else { panels };
            let ahead = self.ahead(number, &unit, chunk);
            lists.counts = [None; 2];
            for tap in 0..self.taps {
                let to = to.wrapping_offset((tap * self.tap_step) as isize * ld);
                let ahead = if tap == 0 { ahead } else { (0, 0) };
                let add = chunk > unit.chunks.start;
                // SAFETY: the rows of this tap lie within the area.
                unsafe { self.multiply(runs, tap, row..row + height, cols, (lhs, b), (to, ld), add, ahead, lists) };
            }
        }
        if self.x.splits() == 1 && self.finish.in_place().is_none() {
            let scratch = memory.scratch.wrapping_add(self.panels_bytes() + self.tile_bytes());
            // SAFETY: the tile holds the finished area.
            unsafe { self.finish.area(area, to, ld as usize, memory.operands, scratch) };
        }
    }

    /// One chunk of one tap of a block: every register tile of it.
    ///
    /// # Safety
    /// As [`Phased::run`]; `to` is valid for the block's columns of every `row_step`th row, rows `ld` apart.
    #[expect(clippy::too_many_arguments, reason = "the block, its operands and its destination")]
    unsafe fn multiply(
        &self,
        runs: &Runs,
        tap: usize,
        rows: Range<usize>,
        cols: usize,
        (lhs, b): (*const f32, *const f32),
        (to, ld): (*mut f32, isize),
        add: bool,
        ahead: (isize, isize),
        lists: &mut Lists,
    ) {
        if !self.bounded {
            lists.counts = [None; 2];
        }
        let shift = rows.start as isize + self.shift(tap);
        for (col, count, width) in self.tiles.panels(cols) {
            let list = width / self.tiles.lanes - 1;
            let terms = &mut lists.terms[list];
            let known = *lists.counts[list].get_or_insert_with(|| self.terms(runs, tap, lhs, width, terms));
            let terms = &terms[..known];
            let b = b.wrapping_add(if self.direct { col } else { col * self.depth() });
            let c_row = ld * self.row_step as isize;
            for (row, height) in Tiles::bands(rows.len(), self.tiles.adjacent) {
                let c = to.wrapping_offset(row as isize * c_row).wrapping_add(col);
                let to = Target { cols: count, c, c_row, add };
                // Rows are fetched by the first panel, columns by the first band.
                let ahead = (if col == 0 { ahead.0 } else { 0 }, if row == 0 && self.direct { ahead.1 } else { 0 });
                let tile = Scattered { terms, row: shift + row as isize, b, to, ahead };
                // SAFETY: the tile lies within the block.
                unsafe { self.tiles.scattered[list][height - 1](&tile) };
            }
        }
    }

    fn partials(&self, workspace: *mut u8) -> *mut f32 {
        workspace.cast()
    }

    fn partials_bytes(&self) -> usize {
        if self.x.splits() > 1 { round64(4 * self.x.splits() * self.x.outputs()) } else { 0 }
    }

    /// Where a copy of the input lies.
    fn copy(&self, workspace: *mut u8) -> *mut f32 {
        workspace.wrapping_add(self.partials_bytes()).cast()
    }

    /// Where a block's sums are formed, and the distance between its rows.
    fn destination(&self, area: Area, split: usize, memory: Memory<'_>) -> (*mut f32, isize) {
        let x = &self.x;
        if x.splits() > 1 {
            let row = (split * x.batch + area.batch) * x.m + area.row0;
            return (self.partials(memory.workspace).wrapping_add(row * x.n + area.col0), x.n as isize);
        }
        if let Some(stride) = self.finish.in_place() {
            let offset = area.row0 as isize * stride + area.col0 as isize;
            return (self.finish.output(area.batch, memory.operands).wrapping_offset(offset), stride);
        }
        (memory.scratch.wrapping_add(self.panels_bytes()).cast(), self.cols as isize)
    }
}

/// Rows of a tap and columns of a block: halved until there are enough blocks, the columns first, whose copies are dearer. The rows of
/// merged taps stay together: those of a block follow each other in the output.
fn block(x: Extents, rows: usize, merged: bool, tiles: &Tiles) -> (usize, usize) {
    let even = |extent: usize, most: usize| extent.div_ceil(extent.div_ceil(most).max(1)).max(1);
    let (mut band, mut cols) = (BAND, COLS);
    loop {
        let units = x.batch * x.splits() * rows.div_ceil(band) * x.n.div_ceil(cols);
        if units >= UNITS || x.multiply_adds() / units.max(1) <= TASK {
            return (even(rows, band), even(x.n, cols).next_multiple_of(tiles.cols()));
        }
        if cols > tiles.cols() {
            cols /= 2;
        } else if band > 14 && !merged {
            band /= 2;
        } else {
            return (even(rows, band), even(x.n, cols).next_multiple_of(tiles.cols()));
        }
    }
}

impl Phased for Gradient {
    fn tasks(&self, phase: usize) -> usize {
        match phase {
            _ if self.x.outputs() == 0 => 0,
            0 if self.is_small() => 0,
            0 => self.pad.as_ref().map_or(0, Pad::tasks),
            1 => self.units().div_ceil(self.units_per_task),
            _ => self.finish.combine_tasks(),
        }
    }

    fn sum_parts(&self) -> usize {
        let plain = self.pad.is_none() && self.x.batch == 1;
        self.x.splits.filter(|_| plain).unwrap_or(1)
    }

    fn workspace(&self) -> usize {
        self.partials_bytes() + round64(4 * self.pad.as_ref().map_or(0, Pad::size))
    }

    fn scratch(&self) -> usize {
        self.panels_bytes() + self.tile_bytes() + self.finish.scratch()
    }

    unsafe fn run(&self, phase: usize, task: usize, memory: Memory<'_>) {
        if phase == 2 {
            // SAFETY: as the caller vouches; the parts are complete.
            return unsafe { self.finish.combine(task, self.partials(memory.workspace), memory.operands, memory.scratch) };
        }
        if let (Some(pad), true) = (&self.pad, phase == 0 || self.is_small()) {
            let tasks = if phase == 0 { task..task + 1 } else { 0..pad.tasks() };
            // SAFETY: as the caller vouches; every task has its own lines.
            tasks.for_each(|task| unsafe { pad.copy(task, memory.operands[0].cast(), self.copy(memory.workspace)) });
        }
        if phase == 0 {
            return;
        }
        let mut lists = Lists { terms: [[Term { a: std::ptr::null(), b: 0 }; KC]; 2], counts: [None; 2] };
        let mut runs = Runs::new();
        let first = task.saturating_mul(self.units_per_task);
        for unit in first..self.units().min(first.saturating_add(self.units_per_task)) {
            // SAFETY: as the caller vouches.
            unsafe { self.compute(unit, (&mut runs, &mut lists), memory) };
        }
    }
}
