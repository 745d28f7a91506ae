//! Convolutions whose groups have one feature each: vectors run over the groups.

use std::sync::Arc;

use super::chains::{Chains, Spread, Tap};
use super::reach::{Axis, Reach};
use super::slide::{ROW, Slide};
use super::spec::Phase;
use crate::Isa;
use crate::gemm::driver::Memory;
use crate::gemm::finish::{Area, Finish, Output};
use crate::gemm::parts::Phased;
use crate::gemm::plan::{Extents, SMALL};
use crate::gemm::{Epilogue, KC, round64};

/// Groups of a block at most.
const COLS: usize = 256;
/// Multiply-adds of a task: 10 to 30 µs.
const TASK: usize = 1 << 20;

/// Positions that are computed while memory answers a request for the output.
const AHEAD: usize = 64;

/// A planned depthwise convolution.
pub(super) struct Depthwise {
    /// Rows are positions, columns are groups.
    x: Extents,
    reach: Reach,
    finish: Finish,
    chains: &'static Chains,
    rhs: isize,
    /// Weights as they lie: stride of the groups, and offset of every tap.
    group: isize,
    taps: Vec<isize>,
    lines_per_task: usize,
    /// Taps from one position to the next, where rows of three taps [slide](super::slide) along the line.
    slides: Option<usize>,
}

/// The axes of the input: batches, then space.
fn axes(phase: &Phase) -> Vec<Axis> {
    let spec = &phase.spec;
    let batch = Axis {
        input: spec.batch,
        lhs: spec.lhs_batch,
        dilation: 1,
        origin: 0,
        positions: spec.batch,
        position_step: 1,
        taps: 1,
        tap_step: 1,
        weight: 0,
    };
    let space = spec.spatial.iter().map(|d| Axis {
        input: d.input,
        lhs: d.lhs,
        dilation: d.lhs_dilation,
        origin: -d.pad_low,
        positions: d.output,
        position_step: d.stride as isize,
        taps: d.window,
        tap_step: d.rhs_dilation as isize,
        weight: d.rhs,
    });
    std::iter::once(batch).chain(space).collect()
}

/// Makes the weights of axes those of taps that lie one after the other, `columns` elements each.
fn packed(axes: &mut [Axis], columns: usize) {
    let mut stride = columns as isize;
    for axis in axes.iter_mut().rev() {
        axis.weight = stride;
        stride *= axis.taps as isize;
    }
}

/// Taps from one position to the next, if there are rows of three that miss the input at no more than the first and the last position.
fn distance(inner: &Axis) -> Option<usize> {
    let all = inner.positions;
    if inner.taps != ROW || inner.dilation != 1 || inner.position_step % inner.tap_step != 0 {
        return None;
    }
    let [first, middle, last] = [0, 1, 2].map(|tap| inner.positions_of(tap));
    let meets = first.0 <= 1 && first.1 == all && middle == (0, all) && last.0 == 0 && last.1 + 1 >= all;
    let distance = usize::try_from(inner.position_step / inner.tap_step).ok()?;
    (meets && (1..=2).contains(&distance)).then_some(distance)
}

impl Depthwise {
    /// Plans a convolution whose groups have one feature and one channel each, with adjacent inputs; `None` where there
    /// are too many taps.
    pub fn new(phase: &Phase, out: Output, epilogue: Option<Arc<dyn Epilogue>>, isa: Isa) -> Option<Depthwise> {
        let groups = phase.groups;
        let x = Extents { batch: 1, n: groups.count, ..phase.extents() };
        if x.splits() > 1 {
            return None;
        }
        let mut axes = axes(phase);
        let offset = |mut tap: usize| {
            let mut offset = 0;
            for axis in axes.iter().rev() {
                offset += (tap % axis.taps) as isize * axis.weight;
                tap /= axis.taps;
            }
            offset
        };
        let taps = (0..x.k).map(offset).collect();
        if groups.rhs != 1 {
            packed(&mut axes, x.n);
        }
        let reach = Reach::new(axes)?;
        let line = reach.inner.positions * x.n.min(COLS) * x.k;
        Some(Depthwise {
            x,
            lines_per_task: if x.multiply_adds() <= SMALL / 2 && x.n <= COLS && x.runs == 1 {
                usize::MAX
            } else {
                (TASK / line.max(1)).max(1)
            },
            slides: distance(&reach.inner).filter(|_| x.k <= KC),
            reach,
            finish: Finish { x, out, epilogue, simd: isa != Isa::Portable },
            chains: Chains::of(isa),
            rhs: phase.rhs,
            group: groups.rhs,
            taps,
        })
    }

    /// Whether the weights of adjacent groups must first be brought side by side.
    fn packs(&self) -> bool {
        self.group != 1
    }

    fn is_small(&self) -> bool {
        self.lines_per_task == usize::MAX
    }

    fn col_blocks(&self) -> usize {
        self.x.n.div_ceil(COLS)
    }

    fn tile_bytes(&self) -> usize {
        if self.finish.in_place().is_some() { 0 } else { round64(4 * self.reach.inner.positions * self.x.n.min(COLS)) }
    }

    /// # Safety
    /// As [`Phased::run`].
    unsafe fn pack(&self, memory: Memory<'_>) {
        let to = memory.workspace.cast::<f32>();
        for (tap, offset) in self.taps.iter().enumerate() {
            let from = memory.operands[1].cast::<f32>().wrapping_offset(self.rhs + offset);
            for g in 0..self.x.n {
                // SAFETY: the tap and the group lie within the weights, and in the packed copy.
                unsafe { *to.add(tap * self.x.n + g) = *from.offset(g as isize * self.group) };
            }
        }
    }

    /// One line of the output, for one block of groups.
    ///
    /// # Safety
    /// As [`Phased::run`].
    unsafe fn line(&self, number: usize, col0: usize, memory: Memory<'_>) {
        let (inner, cols) = (self.reach.inner, (self.x.n - col0).min(COLS));
        let line = self.reach.line(number);
        let row0 = number * inner.positions;
        let (to, to_step) = match self.finish.in_place() {
            Some(row) => (self.finish.output(0, memory.operands).wrapping_offset(row0 as isize * row + col0 as isize), row),
            None => (memory.scratch.cast::<f32>(), cols as isize),
        };
        let area = Area { batch: 0, row0, rows: inner.positions, col0, cols };
        self.finish.fetch(area, memory.operands);
        let x = memory.operands[0].cast::<f32>().cast_const().wrapping_offset(line.lhs).wrapping_add(col0);
        let w = if self.packs() {
            memory.workspace.cast::<f32>().cast_const()
        } else {
            memory.operands[1].cast::<f32>().cast_const().wrapping_offset(self.rhs)
        };
        let lines = AHEAD.div_ceil(inner.positions.max(1));
        let next = self.finish.in_place().map_or(0, |row| row * (inner.positions * lines) as isize);
        for segment in &self.reach.segments {
            let mut taps = self.reach.taps(&line, segment);
            if let (Some(distance), Some(last)) = (self.slides, taps.get(ROW - 1)) {
                let slide = Slide {
                    taps,
                    x: x.wrapping_offset(segment.lhs),
                    x_step: segment.lhs_step / distance as isize,
                    w: w.wrapping_add(col0),
                    to,
                    to_step,
                    lanes: cols,
                    inside: [taps[0].positions.0 == 0, last.positions.1 == segment.count],
                    ahead: next,
                };
                // SAFETY: the rows of taps meet the input, but for the first and the last position where that is said.
                unsafe { self.chains.slide(slide, segment.count, distance) };
                continue;
            }
            for chunk in 0..self.x.chunks() {
                let (part, rest) = taps.split_at(taps.partition_point(|tap: &Tap| tap.index < (chunk + 1) * KC));
                taps = rest;
                let spread = Spread {
                    taps: part,
                    first: 0,
                    x: x.wrapping_offset(segment.lhs),
                    x_step: segment.lhs_step,
                    w: w.wrapping_add(col0),
                    to: to.wrapping_offset(segment.first as isize * to_step),
                    to_step: segment.step as isize * to_step,
                    lanes: cols,
                    add: chunk > 0,
                    ahead: next,
                };
                // SAFETY: every tap of the list meets the input at its positions of the segment.
                unsafe { self.chains.spread(spread, segment.count) };
            }
        }
        if self.finish.in_place().is_none() {
            let scratch = memory.scratch.wrapping_add(self.tile_bytes());
            // SAFETY: the tile holds the finished line.
            unsafe { self.finish.area(area, to, cols, memory.operands, scratch) };
        }
    }
}

impl Phased for Depthwise {
    fn tasks(&self, phase: usize) -> usize {
        match phase {
            _ if self.x.outputs() == 0 => 0,
            0 => usize::from(self.packs() && !self.is_small()),
            1 => self.reach.lines().div_ceil(self.lines_per_task) * self.col_blocks(),
            _ => 0,
        }
    }

    fn shares(&self) -> bool {
        !self.is_small()
    }

    fn workspace(&self) -> usize {
        if self.packs() { round64(4 * self.x.k * self.x.n) } else { 0 }
    }

    fn scratch(&self) -> usize {
        self.tile_bytes() + self.finish.scratch()
    }

    unsafe fn run(&self, phase: usize, task: usize, memory: Memory<'_>) {
        let (block, task) = (task % self.col_blocks(), task / self.col_blocks());
        if self.packs() && (phase == 0 || self.is_small()) {
            // SAFETY: as the caller vouches; a small convolution has one task.
            unsafe { self.pack(memory) };
        }
        if phase == 1 {
            let first = task.saturating_mul(self.lines_per_task);
            for line in first..self.reach.lines().min(first.saturating_add(self.lines_per_task)) {
                // SAFETY: as the caller vouches.
                unsafe { self.line(line, block * COLS, memory) };
            }
        }
    }
}
