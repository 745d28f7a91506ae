//! Which taps meet the input at which positions, for kernels that leave out what lies in the padding.
//!
//! Positions are walked line by line: a line is a row of the output, and the taps are the window.

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
    /// Distance between input elements; 1 for none.
    pub dilation: usize,
    /// Place in the dilated input of tap 0 at position 0.
    pub origin: isize,
    pub positions: usize,
    /// Steps in the dilated input from one position to the next.
    pub position_step: isize,
    pub taps: usize,
    pub tap_step: isize,
    /// Stride of the weights along the taps.
    pub weight: isize,
}

impl Axis {
    /// Place of a tap at a position in the input, if it holds an element.
    fn place(&self, position: usize, tap: usize) -> Option<usize> {
        let at = self.origin + position as isize * self.position_step + tap as isize * self.tap_step;
        let at = usize::try_from(at).ok()?;
        (at % self.dilation == 0 && at / self.dilation < self.input).then_some(at / self.dilation)
    }

    /// The taps that meet the input at a position.
    fn valid(&self, position: usize) -> Vec<usize> {
        (0..self.taps).filter(|&tap| self.place(position, tap).is_some()).collect()
    }

    /// The first position at which a tap meets the input, and the one after the last. With holes in the input all positions of a
    /// segment meet the same taps.
    pub fn positions_of(&self, tap: usize) -> (usize, usize) {
        if self.dilation != 1 {
            return (0, self.positions);
        }
        let meets = |&position: &usize| self.place(position, tap).is_some();
        let first = (0..self.positions).find(meets);
        first.map_or((0, 0), |first| (first, (0..self.positions).rfind(meets).map_or(first, |last| last + 1)))
    }

    /// Offset in the input of the first tap that meets it at a position.
    fn start(&self, position: usize) -> isize {
        let first = (0..self.taps).find_map(|tap| self.place(position, tap));
        first.map_or(0, |place| place as isize * self.lhs)
    }
}

/// Positions of a line at a constant distance. Each tap says which of them it meets.
#[derive(Clone, Copy)]
pub(super) struct Segment {
    pub first: usize,
    pub count: usize,
    /// Distance of the positions.
    pub step: usize,
    /// Offset in the input of the first of its taps at the first position, which may lie outside, and from one position to the next.
    pub lhs: isize,
    pub lhs_step: isize,
    /// The first list of its taps: one for each class of lines.
    lists: usize,
}

/// The taps of every position.
pub(super) struct Reach {
    outer: Vec<Outer>,
    pub inner: Axis,
    pub segments: Vec<Segment>,
    lists: Vec<Range<usize>>,
    taps: Vec<Tap>,
}

/// An axis across the lines. Positions of a class meet the same taps.
struct Outer {
    axis: Axis,
    /// The class of each position, and the offset in the input of its first tap.
    positions: Vec<(usize, isize)>,
    /// The taps of each class.
    classes: Vec<Vec<usize>>,
}

/// A line: where it starts.
pub(super) struct Line {
    /// Offset of its first taps in the input.
    pub lhs: isize,
    class: usize,
}

impl Outer {
    fn new(axis: Axis) -> Outer {
        let mut classes: Vec<Vec<usize>> = Vec::new();
        let mut positions = Vec::new();
        for position in 0..axis.positions {
            let valid = axis.valid(position);
            let class = classes.iter().position(|class| *class == valid).unwrap_or_else(|| {
                classes.push(valid);
                classes.len() - 1
            });
            positions.push((class, axis.start(position)));
        }
        Outer { axis, positions, classes }
    }
}

/// The segments of a line with the taps of each. Without holes in the input that is the line, with all taps.
fn segments(axis: &Axis) -> Vec<(Segment, Vec<usize>)> {
    let mut all: Vec<(Segment, Vec<usize>)> = Vec::new();
    if axis.dilation == 1 && axis.positions > 0 {
        let (lhs, lhs_step) = (axis.origin * axis.lhs, axis.position_step * axis.lhs);
        let line = Segment { first: 0, count: axis.positions, step: 1, lhs, lhs_step, lists: 0 };
        return vec![(line, (0..axis.taps).collect())];
    }
    for residue in 0..axis.dilation.min(axis.positions) {
        let first = all.len();
        for position in (residue..axis.positions).step_by(axis.dilation) {
            let valid = axis.valid(position);
            match all[first..].last_mut() {
                Some((segment, taps)) if *taps == valid => segment.count += 1,
                _ => {
                    let (lhs, lhs_step) = (axis.start(position), axis.position_step * axis.lhs);
                    all.push((Segment { first: position, count: 1, step: axis.dilation, lhs, lhs_step, lists: 0 }, valid));
                }
            }
        }
    }
    all
}

impl Reach {
    /// Finds the taps for axes with the innermost last; `None` if there is no axis or the lists would be too long.
    pub fn new(mut axes: Vec<Axis>) -> Option<Reach> {
        let taps: usize = axes.iter().map(|a| a.taps).product();
        let inner = axes.pop()?;
        let parts = segments(&inner);
        let outer: Vec<Outer> = axes.into_iter().map(Outer::new).collect();
        let combinations: usize = outer.iter().map(|o| o.classes.len()).product();
        if combinations.saturating_mul(parts.len()).saturating_mul(taps) > MAX_TAPS {
            return None;
        }
        let mut reach = Reach { outer, inner, segments: Vec::new(), lists: Vec::new(), taps: Vec::new() };
        for (segment, taps) in &parts {
            reach.segments.push(Segment { lists: reach.lists.len(), ..*segment });
            for class in 0..combinations {
                reach.list(class, taps);
            }
        }
        Some(reach)
    }

    /// Appends the taps of one class of lines and one segment, which meets `inner` of its line.
    fn list(&mut self, mut class: usize, inner: &[usize]) {
        let mut axes = vec![(self.inner, inner)];
        for outer in self.outer.iter().rev() {
            axes.push((outer.axis, &outer.classes[class % outer.classes.len()]));
            class /= outer.classes.len();
        }
        let first = self.taps.len();
        let count: usize = axes.iter().map(|axis| axis.1.len()).product();
        for mut number in 0..count {
            let positions = self.inner.positions_of(inner[number % inner.len()]);
            let (mut tap, mut unit) = (Tap { x: 0, w: 0, index: 0, positions }, 1);
            for (axis, valid) in &axes {
                let at = valid[number % valid.len()];
                number /= valid.len();
                // Valid taps lie whole elements of the input apart.
                let steps = (at - valid[0]) as isize * axis.tap_step / axis.dilation as isize;
                tap.x += steps * axis.lhs;
                tap.w += at as isize * axis.weight;
                tap.index += at * unit;
                unit *= axis.taps;
            }
            self.taps.push(tap);
        }
        self.lists.push(first..self.taps.len());
    }

    pub fn lines(&self) -> usize {
        self.outer.iter().map(|o| o.axis.positions).product()
    }

    pub fn line(&self, line: usize) -> Line {
        let mut index = [0; MAX_RANK];
        let mut rest = line;
        for (outer, index) in self.outer.iter().zip(&mut index).rev() {
            *index = rest % outer.axis.positions;
            rest /= outer.axis.positions;
        }
        let (mut lhs, mut class) = (0, 0);
        for (outer, index) in self.outer.iter().zip(index) {
            let (part, start) = outer.positions[index];
            class = class * outer.classes.len() + part;
            lhs += start;
        }
        Line { lhs, class }
    }

    /// The taps of a segment of a line, in ascending order.
    pub fn taps(&self, line: &Line, segment: &Segment) -> &[Tap] {
        &self.taps[self.lists[segment.lists + line.class].clone()]
    }
}
