//! Weight gradients of depthwise convolutions: vectors run over the groups, sums over the positions.

use std::sync::Arc;

use super::chains::{Chains, Collect};
use super::depthwise::{axes, packed};
use super::reach::Reach;
use super::spec::Phase;
use crate::Isa;
use crate::gemm::driver::Memory;
use crate::gemm::finish::{Area, Finish, Output};
use crate::gemm::parts::Phased;
use crate::gemm::plan::Extents;
use crate::gemm::{Epilogue, KC, round64};

/// Groups of a block: two pairs of the longest vectors.
const COLS: usize = 64;

/// A planned convolution with one feature to a group and a window larger than its output.
pub(super) struct DepthwiseGradient {
    /// Rows are taps, columns are groups, terms are positions.
    x: Extents,
    reach: Reach,
    finish: Finish,
    chains: &'static Chains,
    rhs: isize,
}

impl DepthwiseGradient {
    /// Plans it for groups of one batch, one channel and one feature whose operands are adjacent; `None` where the taps of the
    /// positions are too many to be listed.
    pub fn new(phase: &Phase, out: Output, epilogue: Option<Arc<dyn Epilogue>>, isa: Isa) -> Option<DepthwiseGradient> {
        let (spec, groups) = (&phase.spec, phase.groups);
        let x = Extents { batch: 1, m: spec.positions(), n: groups.count, k: spec.terms() };
        let mut axes = axes(phase, false);
        packed(&mut axes, x.n.min(COLS));
        Some(DepthwiseGradient {
            x,
            reach: Reach::new(axes)?,
            finish: Finish { x, out, epilogue, simd: isa != Isa::Portable },
            chains: Chains::of(isa),
            rhs: phase.rhs,
        })
    }

    fn blocks(&self) -> usize {
        self.x.n.div_ceil(COLS)
    }

    /// Elements of the sums of a block.
    fn sums(&self) -> usize {
        self.x.m * self.x.n.min(COLS)
    }

    /// The chains of one chunk of terms, from zero on.
    ///
    /// # Safety
    /// As [`Phased::run`]; `sums` has room for a block.
    unsafe fn chunk(&self, chunk: usize, col0: usize, operands: &[*mut u8], sums: *mut f32) {
        // SAFETY: as the caller vouches.
        unsafe { sums.write_bytes(0, self.sums()) };
        let inner = self.reach.inner;
        let x = operands[0].cast::<f32>().cast_const().wrapping_add(col0);
        let y = operands[1].cast::<f32>().cast_const().wrapping_offset(self.rhs).wrapping_add(col0);
        let (mut term, end) = (chunk * KC, self.x.k.min((chunk + 1) * KC));
        while term < end {
            let (number, start) = (term / inner.positions, term % inner.positions);
            let stop = inner.positions.min(start + end - term);
            let line = self.reach.line(number);
            for segment in &self.reach.segments {
                let (from, to) = (segment.first.max(start), stop.min(segment.first + segment.count));
                if from >= to {
                    continue;
                }
                let collect = Collect {
                    taps: self.reach.taps(&line, segment),
                    x: x.wrapping_offset(line.lhs + segment.lhs + (from - segment.first) as isize * segment.lhs_step),
                    x_step: segment.lhs_step,
                    y: y.wrapping_offset(line.other + from as isize * inner.other),
                    y_step: inner.other,
                    positions: to - from,
                    sums,
                    lanes: (self.x.n - col0).min(COLS),
                };
                // SAFETY: every tap of the list meets the input at every position of the segment.
                unsafe { self.chains.collect(collect) };
            }
            term += stop - start;
        }
    }

    /// All chunks of a split for one block of groups.
    ///
    /// # Safety
    /// As [`Phased::run`].
    unsafe fn compute(&self, task: usize, memory: Memory<'_>) {
        let (x, splits) = (self.x, self.x.splits());
        let (col0, split) = (task % self.blocks() * COLS, task / self.blocks());
        let (cols, ld) = ((x.n - col0).min(COLS), x.n.min(COLS));
        let sums = memory.scratch.cast::<f32>();
        let (to, to_ld) = if splits > 1 {
            (memory.workspace.cast::<f32>().wrapping_add(split * x.outputs() + col0), x.n)
        } else {
            (sums.wrapping_add(self.sums()), ld)
        };
        let first = split * x.chunks() / splits;
        for chunk in first..(split + 1) * x.chunks() / splits {
            // SAFETY: the scratch has room for the sums and, behind them, for their total; the parts are this task's own.
            unsafe {
                self.chunk(chunk, col0, memory.operands, sums);
                for tap in 0..x.m {
                    let sums = std::slice::from_raw_parts(sums.add(tap * ld), cols);
                    let to = std::slice::from_raw_parts_mut(to.add(tap * to_ld), cols);
                    if chunk == first {
                        to.copy_from_slice(sums);
                    } else {
                        to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
                    }
                }
            }
        }
        if splits == 1 {
            let area = Area { batch: 0, row0: 0, rows: x.m, col0, cols };
            let scratch = memory.scratch.wrapping_add(self.sums_bytes());
            // SAFETY: the total is finished.
            unsafe { self.finish.area(area, to, ld, memory.operands, scratch) };
        }
    }

    fn sums_bytes(&self) -> usize {
        round64(8 * self.sums())
    }
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
