//! Which taps meet the input at which positions, for kernels that leave out what lies in the padding.
//!
//! Positions are walked line by line. For a convolution a line is a row of the output and the taps are the window; for a weight
//! gradient it is the other way round.

use std::ops::Range;

use super::chains::Tap;
use super::patches::MAX_RANK;

/// Taps in all lists together at most.
const MAX_TAPS: usize = 1 << 20;

/// One dimension: positions, and taps.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    pub input: usize,
    pub lhs: isize,
    /// Place in the input of tap 0 at position 0.
    pub origin: isize,
    pub positions: usize,
    /// Steps in the input from one position to the next.
    pub position_step: isize,
    pub taps: usize,
    pub tap_step: isize,
    /// Stride of the other operand (or the output) along the positions.
    pub other: isize,
    /// Stride of the weights (or the sums) along the taps.
    pub weight: isize,
}

impl Axis {
    /// The taps that meet the input at a position.
    fn valid(&self, position: usize) -> Range<usize> {
        let first = self.origin + position as isize * self.position_step;
        let step = self.tap_step as usize;
        let end = ((self.input as isize - first).max(0) as usize).div_ceil(step).min(self.taps);
        ((-first).max(0) as usize).div_ceil(step).min(end)..end
    }
}

/// Adjacent positions of a line that meet the same taps.
#[derive(Clone, Copy)]
pub(super) struct Segment {
    pub first: usize,
    pub count: usize,
    /// Where the list of its taps starts and ends, for each class of lines.
    lists: usize,
}

/// The taps of every position.
pub(super) struct Reach {
    outer: Vec<Axis>,
    pub inner: Axis,
    /// For each outer axis, the class of each position: positions of a class meet the same taps.
    classes: Vec<Vec<usize>>,
    /// Classes of each outer axis.
    counts: Vec<usize>,
    pub segments: Vec<Segment>,
    lists: Vec<Range<usize>>,
    taps: Vec<Tap>,
}

/// A line: where it starts.
pub(super) struct Line {
    /// Offset of tap 0 at position 0 in the input, which it may lie outside of.
    pub lhs: isize,
    pub other: isize,
    class: usize,
}

/// Groups equal neighbours: (first, count, value).
fn grouped(values: impl Iterator<Item = Range<usize>>) -> Vec<(usize, usize, Range<usize>)> {
    let mut all: Vec<(usize, usize, Range<usize>)> = Vec::new();
    for (i, value) in values.enumerate() {
        match all.last_mut() {
            Some(last) if last.2 == value => last.1 += 1,
            _ => all.push((i, 1, value)),
        }
    }
    all
}

impl Reach {
    /// Finds the taps for axes with the innermost last; `None` if there is no axis or the lists would be too long.
    pub fn new(mut axes: Vec<Axis>) -> Option<Reach> {
        let taps: usize = axes.iter().map(|a| a.taps).product();
        let inner = axes.pop()?;
        let parts = grouped((0..inner.positions).map(|p| inner.valid(p)));
        let mut classes = Vec::new();
        let mut ranges: Vec<Vec<Range<usize>>> = Vec::new();
        for axis in &axes {
            let parts = grouped((0..axis.positions).map(|p| axis.valid(p)));
            classes.push(parts.iter().enumerate().flat_map(|(i, part)| std::iter::repeat_n(i, part.1)).collect());
            ranges.push(parts.into_iter().map(|part| part.2).collect());
        }
        let counts: Vec<usize> = ranges.iter().map(Vec::len).collect();
        let combinations: usize = counts.iter().product();
        if combinations.saturating_mul(parts.len()).saturating_mul(taps) > MAX_TAPS {
            return None;
        }
        let mut reach = Reach { outer: axes, inner, classes, counts, segments: Vec::new(), lists: Vec::new(), taps: Vec::new() };
        for (i, (first, count, _)) in parts.iter().enumerate() {
            reach.segments.push(Segment { first: *first, count: *count, lists: i * combinations });
        }
        for (_, _, valid) in &parts {
            for combination in 0..combinations {
                reach.list(combination, &ranges, valid);
            }
        }
        Some(reach)
    }

    /// Appends the taps of one class of lines and one segment.
    fn list(&mut self, mut class: usize, ranges: &[Vec<Range<usize>>], valid: &Range<usize>) {
        let mut bounds = vec![valid.clone()];
        for ranges in ranges.iter().rev() {
            bounds.insert(0, ranges[class % ranges.len()].clone());
            class /= ranges.len();
        }
        let axes: Vec<Axis> = self.outer.iter().chain([&self.inner]).copied().collect();
        let first = self.taps.len();
        let count: usize = bounds.iter().map(ExactSizeIterator::len).product();
        for mut index in 0..count {
            let (mut tap, mut unit) = (Tap { x: 0, w: 0, index: 0 }, 1);
            for (axis, bound) in axes.iter().zip(&bounds).rev() {
                let at = (bound.start + index % bound.len()) as isize;
                index /= bound.len();
                tap.x += at * axis.tap_step * axis.lhs;
                tap.w += at * axis.weight;
                tap.index += at as usize * unit;
                unit *= axis.taps;
            }
            self.taps.push(tap);
        }
        self.lists.push(first..self.taps.len());
    }

    pub fn lines(&self) -> usize {
        self.outer.iter().map(|a| a.positions).product()
    }

    pub fn line(&self, line: usize) -> Line {
        let inner = &self.inner;
        let (mut lhs, mut other, mut rest) = (inner.origin * inner.lhs, 0, line);
        let mut index = [0; MAX_RANK];
        for (axis, index) in self.outer.iter().zip(&mut index).rev() {
            *index = rest % axis.positions;
            rest /= axis.positions;
            lhs += (axis.origin + *index as isize * axis.position_step) * axis.lhs;
            other += *index as isize * axis.other;
        }
        let mut class = 0;
        for ((classes, count), index) in self.classes.iter().zip(&self.counts).zip(index) {
            class = class * count + classes[index];
        }
        Line { lhs, other, class }
    }

    /// The taps of a segment of a line, in ascending order.
    pub fn taps(&self, line: &Line, segment: &Segment) -> &[Tap] {
        &self.taps[self.lists[segment.lists + line.class].clone()]
    }
}
