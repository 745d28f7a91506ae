//! The terms of convolutions whose window is larger than their output: where each lies in the input and in the other operand.

use std::ops::Range;

use super::patches::MAX_RANK;
use super::spec::ConvSpec;
use crate::gemm::KC;

/// One spatial dimension: its terms (positions of the window) and its taps (positions of the output).
#[derive(Clone, Copy)]
pub(super) struct Dim {
    pub input: usize,
    /// Position of term 0 of tap 0.
    pub origin: isize,
    pub terms: usize,
    /// Positions of the input per term.
    pub term_step: isize,
    pub taps: usize,
    pub tap_step: isize,
    pub lhs: isize,
    pub rhs: isize,
}

impl Dim {
    /// A dimension of one element.
    pub const UNIT: Dim = Dim { input: 1, origin: 0, terms: 1, term_step: 1, taps: 1, tap_step: 1, lhs: 0, rhs: 0 };

    /// Those of an input without holes.
    pub fn all(spec: &ConvSpec) -> Vec<Dim> {
        let dim = |d: &super::ConvDim| Dim {
            input: d.input,
            origin: -d.pad_low,
            terms: d.window,
            term_step: d.rhs_dilation as isize,
            taps: d.output,
            tap_step: d.stride as isize,
            lhs: d.lhs,
            rhs: d.rhs,
        };
        spec.spatial.iter().map(dim).collect()
    }

    /// The terms of a tap that meet the input.
    pub fn valid(&self, tap: usize) -> Range<usize> {
        meet(self.input, self.origin + tap as isize * self.tap_step, self.term_step, self.terms)
    }

    /// Whether every term of every tap meets the input.
    pub fn is_bounded(&self) -> bool {
        let last = self.term_step * self.terms.saturating_sub(1) as isize + self.tap_step * self.taps.saturating_sub(1) as isize;
        self.origin >= 0 && self.origin + last < self.input as isize
    }

    /// The taps, out of `taps` from `first` on, that meet the input at a place of tap 0, counted from `first`.
    pub fn taps_at(&self, place: isize, first: usize, taps: usize) -> Range<usize> {
        meet(self.input, place + first as isize * self.tap_step, self.tap_step, taps)
    }
}

/// Which of so many places, `step` apart from `first` on, lie in the input.
fn meet(input: usize, first: isize, step: isize, count: usize) -> Range<usize> {
    let low = (-first).max(0) as usize;
    let end = (input as isize - first).max(0) as usize;
    let end = end.div_ceil(step as usize).min(count);
    low.div_ceil(step as usize).min(end)..end
}

/// A run of terms along the innermost dimension.
#[derive(Clone, Copy, Default)]
pub(super) struct Run {
    /// Its first term within the chunk and within the innermost dimension.
    pub first: usize,
    pub start: usize,
    pub len: usize,
    /// Offset of its first term in rhs.
    pub rhs: isize,
    /// Positions of the input for tap 0, in the outer dimensions.
    pub outer: [isize; MAX_RANK],
}

/// The runs of one chunk.
pub(super) struct Runs {
    runs: [Run; KC],
    count: usize,
}

impl Runs {
    pub fn new() -> Runs {
        Runs { runs: [Run::default(); KC], count: 0 }
    }

    pub fn all(&self) -> &[Run] {
        &self.runs[..self.count]
    }

    /// Finds the runs of a chunk of `k` terms.
    pub fn fill(&mut self, dims: &[Dim], k: usize, chunk: usize) {
        let (begin, end) = (chunk * KC, k.min((chunk + 1) * KC));
        self.count = 0;
        let Some((inner, outer)) = dims.split_last() else { return };
        let mut term = begin;
        while term < end {
            let start = term % inner.terms;
            let len = (inner.terms - start).min(end - term);
            let mut run = Run { first: term - begin, start, len, rhs: start as isize * inner.rhs, ..Run::default() };
            let mut rest = term / inner.terms;
            for (at, dim) in run.outer.iter_mut().zip(outer).rev() {
                let index = (rest % dim.terms) as isize;
                rest /= dim.terms;
                *at = dim.origin + index * dim.term_step;
                run.rhs += index * dim.rhs;
            }
            self.runs[self.count] = run;
            self.count += 1;
            term += len;
        }
    }
}

/// Offsets of the first term of a chunk in the input (at tap 0) and in the other operand.
pub(super) fn starts(dims: &[Dim], chunk: usize) -> (isize, isize) {
    let (mut a, mut b, mut term) = (0, 0, chunk * KC);
    for dim in dims.iter().rev() {
        let index = (term % dim.terms.max(1)) as isize;
        term /= dim.terms.max(1);
        a += (dim.origin + index * dim.term_step) * dim.lhs;
        b += index * dim.rhs;
    }
    (a, b)
}
