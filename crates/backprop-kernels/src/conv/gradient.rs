//! Convolutions whose window is larger than their output, weight gradients above all: few sums of very many terms.
//!
//! Rows are adjacent elements of lhs and columns adjacent elements of rhs at every term, so a register tile takes the addresses
//! of its terms. Terms in the padding are left out.

use std::ops::Range;
use std::sync::Arc;

use super::micro::{Scattered, Target, Term, Tiles};
use super::patches::MAX_RANK;
use super::spec::Phase;
use crate::Isa;
use crate::gemm::driver::Memory;
use crate::gemm::finish::{Area, Finish, Output};
use crate::gemm::pack::{copy_short, zero_rest};
use crate::gemm::parts::Phased;
use crate::gemm::plan::{Extents, SMALL};
use crate::gemm::{Epilogue, KC, round64};

/// Columns of a block at most.
const COLS: usize = 128;
/// Rows of a band at most: two or more tiles for every instruction set.
const BAND: usize = 28;
/// Multiply-adds of a task: about 60 µs.
const TASK: usize = 8 << 20;

/// One spatial dimension: its terms (positions of the window) and its taps (positions of the output).
#[derive(Clone, Copy)]
struct Dim {
    input: usize,
    /// Position of term 0 of tap 0.
    origin: isize,
    terms: usize,
    /// Positions of the input per term.
    term_step: isize,
    taps: usize,
    tap_step: isize,
    lhs: isize,
    rhs: isize,
}

impl Dim {
    /// The terms of a tap that meet the input.
    fn valid(&self, tap: usize) -> Range<usize> {
        let first = self.origin + tap as isize * self.tap_step;
        let low = (-first).max(0) as usize;
        let end = (self.input as isize - first).max(0) as usize;
        let step = self.term_step as usize;
        let end = end.div_ceil(step).min(self.terms);
        low.div_ceil(step).min(end)..end
    }
}

/// A planned convolution of that kind.
pub(super) struct Gradient {
    x: Extents,
    dims: Vec<Dim>,
    /// Adjacent rows of a tap, and the taps that have rows of their own.
    rows: usize,
    taps: usize,
    lhs_group: isize,
    rhs_group: isize,
    rhs: isize,
    finish: Finish,
    tiles: &'static Tiles,
    band: usize,
    cols: usize,
    units_per_task: usize,
}

/// A run of terms along the innermost dimension.
struct Run {
    /// Its first term, within the chunk.
    first: usize,
    index: [usize; MAX_RANK],
    len: usize,
}

impl Gradient {
    /// Whether rows and columns are adjacent and the input has no holes.
    pub fn fits(phase: &Phase) -> bool {
        let spec = &phase.spec;
        let holes = spec.spatial.iter().any(|d| d.lhs_dilation != 1);
        let adjacent = |stride: isize, extent: usize| stride == 1 || extent == 1;
        spec.channels == 1
            && !spec.spatial.is_empty()
            && !holes
            && adjacent(spec.lhs_batch, spec.batch)
            && adjacent(spec.rhs_feature, phase.groups.features)
    }

    /// Plans it; rows of `out` are numbered (batch, space).
    pub fn new(phase: &Phase, out: Output, epilogue: Option<Arc<dyn Epilogue>>, isa: Isa) -> Gradient {
        let (spec, groups, tiles) = (&phase.spec, phase.groups, Tiles::of(isa));
        let dims = spec.spatial.iter().map(|d| Dim {
            input: d.input,
            origin: -d.pad_low,
            terms: d.window,
            term_step: d.rhs_dilation as isize,
            taps: d.output,
            tap_step: d.stride as isize,
            lhs: d.lhs,
            rhs: d.rhs,
        });
        let x = Extents { batch: groups.count, m: spec.positions(), n: groups.features, k: spec.terms() };
        let even = |extent: usize, most: usize| extent.div_ceil(extent.div_ceil(most).max(1)).max(1);
        let cols = even(x.n, COLS).next_multiple_of(tiles.cols());
        let taps: usize = spec.spatial.iter().map(|d| d.output).product();
        let area = TASK / x.k.div_ceil(x.splits()).max(1);
        let band = even(spec.batch, (area / (cols * taps).max(1)).max(BAND));
        let unit = band * taps * cols * x.k.div_ceil(x.splits());
        let units_per_task = if x.multiply_adds() <= SMALL { usize::MAX } else { (TASK / 8 / unit.max(1)).max(1) };
        Gradient {
            x,
            dims: dims.collect(),
            rows: spec.batch,
            taps,
            lhs_group: groups.lhs,
            rhs_group: groups.rhs,
            rhs: phase.rhs,
            finish: Finish { x, out, epilogue, simd: isa != Isa::Portable },
            tiles,
            band,
            cols,
            units_per_task,
        }
    }

    fn bands(&self) -> usize {
        self.rows.div_ceil(self.band)
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

    /// Calls `each` for the runs of a chunk.
    fn runs(&self, chunk: usize, mut each: impl FnMut(Run)) {
        let (begin, end) = (chunk * KC, self.x.k.min((chunk + 1) * KC));
        let inner = self.dims.last().map_or(1, |d| d.terms);
        let mut term = begin;
        while term < end {
            let mut index = [0; MAX_RANK];
            let mut rest = term;
            for (index, dim) in index.iter_mut().zip(&self.dims).rev() {
                *index = rest % dim.terms;
                rest /= dim.terms;
            }
            let len = (inner - term % inner).min(end - term);
            each(Run { first: term - begin, index, len });
            term += len;
        }
    }

    /// Copies the columns of a chunk into panels; where each panel starts follows from the widths of those before it.
    ///
    /// # Safety
    /// As [`Phased::run`]; `to` has room for the panels.
    unsafe fn pack(&self, chunk: usize, area: Area, rhs: *const f32, to: *mut f32) {
        let rhs = rhs.wrapping_offset(self.rhs + area.batch as isize * self.rhs_group + area.col0 as isize);
        let step = self.dims.last().map_or(0, |d| d.rhs);
        self.runs(chunk, |run| {
            let offset: isize = self.dims.iter().zip(run.index).map(|(dim, i)| i as isize * dim.rhs).sum();
            let from = rhs.wrapping_offset(offset);
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
        });
    }

    /// The terms of a chunk that meet the input at a tap; returns their number.
    fn terms(&self, chunk: usize, tap: usize, lhs: *const f32, width: usize, terms: &mut [Term; KC]) -> usize {
        let (mut taps, mut rest) = ([0; MAX_RANK], tap);
        for (tap, dim) in taps.iter_mut().zip(&self.dims).rev() {
            *tap = rest % dim.taps;
            rest /= dim.taps;
        }
        let mut count = 0;
        let Some((inner, outer)) = self.dims.split_last() else { return 0 };
        let at = outer.len();
        let valid = inner.valid(taps[at]);
        self.runs(chunk, |run| {
            let mut offset = 0;
            for ((dim, i), tap) in outer.iter().zip(run.index).zip(taps) {
                let position = dim.origin + tap as isize * dim.tap_step + i as isize * dim.term_step;
                // A negative position is huge as an unsigned number.
                if position as usize >= dim.input {
                    return;
                }
                offset += position * dim.lhs;
            }
            let (low, end) = (valid.start.max(run.index[at]), valid.end.min(run.index[at] + run.len));
            let position = inner.origin + taps[at] as isize * inner.tap_step + low as isize * inner.term_step;
            let first = lhs.wrapping_offset(offset + position * inner.lhs);
            let b = run.first + low - run.index[at].min(low);
            let len = end.saturating_sub(low);
            for (i, term) in terms[count..count + len].iter_mut().enumerate() {
                let a = first.wrapping_offset(i as isize * inner.term_step * inner.lhs);
                *term = Term { a, b: (b + i) * width };
            }
            count += len;
        });
        count
    }

    /// # Safety
    /// As [`Phased::run`].
    unsafe fn compute(&self, unit: usize, terms: &mut [Term; KC], memory: Memory<'_>) {
        let (col_blocks, splits) = (self.x.n.div_ceil(self.cols), self.x.splits());
        let (band, rest) = (unit % self.bands(), unit / self.bands());
        let (col_block, rest) = (rest % col_blocks, rest / col_blocks);
        let (split, batch) = (rest % splits, rest / splits);
        let (row, col0) = (band * self.band, col_block * self.cols);
        let height = (self.rows - row).min(self.band);
        let cols = (self.x.n - col0).min(self.cols);
        let area = Area { batch, row0: row * self.taps, rows: height * self.taps, col0, cols };
        let (to, ld) = self.destination(area, split, memory);
        let panels: *mut f32 = memory.scratch.cast();
        let lhs = memory.operands[0].cast::<f32>().cast_const().wrapping_offset(batch as isize * self.lhs_group);
        let chunks = self.x.chunks();
        let first = split * chunks / splits;
        for chunk in first..(split + 1) * chunks / splits {
            // SAFETY: the scratch has room for the panels of a chunk.
            unsafe { self.pack(chunk, area, memory.operands[1].cast(), panels) };
            for tap in 0..self.taps {
                let to = to.wrapping_offset(tap as isize * ld);
                // SAFETY: the rows of this tap are every `taps`th of the area.
                unsafe { self.multiply(chunk, tap, row..row + height, cols, (lhs, panels), (to, ld), chunk > first, terms) };
            }
        }
        if splits == 1 && self.finish.in_place().is_none() {
            let scratch = memory.scratch.wrapping_add(self.panels_bytes() + self.tile_bytes());
            // SAFETY: the tile holds the finished area.
            unsafe { self.finish.area(area, to, ld as usize, memory.operands, scratch) };
        }
    }

    /// One chunk of one tap of a block: every register tile of it.
    ///
    /// # Safety
    /// As [`Phased::run`]; `to` is valid for the block's columns of every `taps`th row, rows `ld` apart.
    #[expect(clippy::too_many_arguments, reason = "the block, its operands and its destination")]
    unsafe fn multiply(
        &self,
        chunk: usize,
        tap: usize,
        rows: Range<usize>,
        cols: usize,
        (lhs, panels): (*const f32, *const f32),
        (to, ld): (*mut f32, isize),
        add: bool,
        terms: &mut [Term; KC],
    ) {
        let mut known = (0, 0);
        for (col, count, width) in self.tiles.panels(cols) {
            if known.0 != width {
                known = (width, self.terms(chunk, tap, lhs, width, terms));
            }
            let (b, c_row) = (panels.wrapping_add(col * self.depth()), ld * self.taps as isize);
            for (row, height) in Tiles::bands(rows.len(), self.tiles.adjacent) {
                let c = to.wrapping_offset(row as isize * c_row).wrapping_add(col);
                let to = Target { cols: count, c, c_row, add };
                let tile = Scattered { terms: &terms[..known.1], row: rows.start + row, b, to };
                // SAFETY: the tile lies within the block.
                unsafe { self.tiles.scattered[width / self.tiles.lanes - 1][height - 1](&tile) };
            }
        }
    }

    /// Where a block's sums are formed, and the distance between its rows.
    fn destination(&self, area: Area, split: usize, memory: Memory<'_>) -> (*mut f32, isize) {
        let x = &self.x;
        if x.splits() > 1 {
            let row = (split * x.batch + area.batch) * x.m + area.row0;
            return (memory.workspace.cast::<f32>().wrapping_add(row * x.n + area.col0), x.n as isize);
        }
        if let Some(stride) = self.finish.in_place() {
            let offset = area.row0 as isize * stride + area.col0 as isize;
            return (self.finish.output(area.batch, memory.operands).wrapping_offset(offset), stride);
        }
        (memory.scratch.wrapping_add(self.panels_bytes()).cast(), self.cols as isize)
    }
}

impl Phased for Gradient {
    fn tasks(&self, phase: usize) -> usize {
        match phase {
            _ if self.x.outputs() == 0 => 0,
            0 => 0,
            1 => self.units().div_ceil(self.units_per_task),
            _ => self.finish.combine_tasks(),
        }
    }

    fn workspace(&self) -> usize {
        if self.x.splits() > 1 { round64(4 * self.x.splits() * self.x.outputs()) } else { 0 }
    }

    fn scratch(&self) -> usize {
        self.panels_bytes() + self.tile_bytes() + self.finish.scratch()
    }

    unsafe fn run(&self, phase: usize, task: usize, memory: Memory<'_>) {
        if phase == 2 {
            // SAFETY: as the caller vouches; the parts are complete.
            return unsafe { self.finish.combine(task, memory.workspace.cast(), memory.operands, memory.scratch) };
        }
        let mut terms = [Term { a: std::ptr::null(), b: 0 }; KC];
        let first = task.saturating_mul(self.units_per_task);
        for unit in first..self.units().min(first.saturating_add(self.units_per_task)) {
            // SAFETY: as the caller vouches.
            unsafe { self.compute(unit, &mut terms, memory) };
        }
    }
}
