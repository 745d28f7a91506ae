//! The weights of a convolution in panels of columns: `[group][chunk][panel][term][column]`, terms in the order (window
//! position, channel).

use std::ops::Range;

use super::micro::Tiles;
use super::spec::Phase;
use crate::gemm::KC;
use crate::gemm::pack::{MAX_WIDTH, copy_short, pack_rows, zero_rest};
use crate::gemm::source::Strided;

/// Elements a packing task moves: about 20 µs.
const MOVED: usize = 1 << 15;

/// Where weights lie, and their panels.
pub(super) struct Weights {
    groups: usize,
    features: usize,
    channels: usize,
    offset: isize,
    group: isize,
    feature: isize,
    channel: isize,
    /// Offset of each window position.
    window: Vec<isize>,
    /// Where a feature's channels and window positions fill a range of memory without gaps: the position at each offset.
    dense: Option<Vec<usize>>,
    tiles: &'static Tiles,
    /// Channels a task packs.
    slice: usize,
}

impl Weights {
    pub fn new(phase: &Phase, tiles: &'static Tiles) -> Weights {
        let (spec, groups) = (&phase.spec, phase.groups);
        let starts = Strided::new(spec.spatial.iter().map(|d| (d.window, d.rhs)));
        let positions: usize = spec.spatial.iter().map(|d| d.window).product();
        let window: Vec<isize> = (0..positions).map(|w| starts.offset(w)).collect();
        let dense = (spec.rhs_channel == positions as isize).then(|| dense(&window)).flatten();
        let per_channel = tiles.cols() * positions.max(1);
        Weights {
            groups: groups.count,
            features: groups.features,
            channels: spec.channels,
            offset: phase.rhs,
            group: groups.rhs,
            feature: spec.rhs_feature,
            channel: spec.rhs_channel,
            window,
            dense,
            tiles,
            slice: (MOVED / per_channel).clamp(1, 64),
        }
    }

    pub fn terms(&self) -> usize {
        self.channels * self.window.len()
    }

    fn padded(&self) -> usize {
        self.features.next_multiple_of(self.tiles.lanes)
    }

    /// Elements of all panels.
    pub fn size(&self) -> usize {
        self.groups * self.padded() * self.terms()
    }

    fn slices(&self) -> usize {
        self.channels.div_ceil(self.slice)
    }

    fn panels(&self) -> usize {
        self.features.div_ceil(self.tiles.cols())
    }

    pub fn tasks(&self) -> usize {
        self.groups * self.panels() * self.slices()
    }

    /// Bytes of private memory a task needs.
    pub fn scratch(&self) -> usize {
        if self.dense.is_some() { 4 * self.slice * self.window.len() * self.tiles.cols() } else { 0 }
    }

    /// Offset of the panel from `col` on, `width` columns wide, at a term.
    pub fn at(&self, group: usize, term: usize, col: usize, width: usize) -> usize {
        let first = term / KC * KC;
        let chunk = (self.terms() - first).min(KC);
        (group * self.terms() + first) * self.padded() + chunk * col + (term - first) * width
    }

    /// The first column of a task's panel, the panel's width, and the task's channels.
    pub fn part(&self, task: usize) -> (usize, usize, Range<usize>) {
        let (slice, panel) = (task % self.slices(), task / self.slices() % self.panels());
        let col = panel * self.tiles.cols();
        let width = (self.features - col).min(self.tiles.cols()).next_multiple_of(self.tiles.lanes);
        (col, width, slice * self.slice..self.channels.min((slice + 1) * self.slice))
    }

    /// Packs the channels of a task of one panel.
    ///
    /// # Safety
    /// `rhs` is the operand the weights were planned for, `to` has room for all panels, `scratch` for a task.
    pub unsafe fn pack(&self, task: usize, rhs: *const f32, to: *mut f32, scratch: *mut u8) {
        let (col, width, channels) = self.part(task);
        let group = task / (self.slices() * self.panels());
        let count = (self.features - col).min(width);
        let from = rhs.wrapping_offset(self.offset + group as isize * self.group + col as isize * self.feature);
        let row =
            |position: usize, channel: usize| to.wrapping_add(self.at(group, position * self.channels + channel, col, width));
        if let Some(order) = &self.dense {
            let smallest = self.window.iter().copied().min().unwrap_or(0);
            let from = from.wrapping_offset(smallest + channels.start as isize * self.channel);
            let mut starts = [from; MAX_WIDTH];
            for (f, start) in starts[..count].iter_mut().enumerate() {
                *start = from.wrapping_offset(f as isize * self.feature);
            }
            let packed: *mut f32 = scratch.cast();
            // SAFETY: the channels of each feature are adjacent elements of rhs; the panel's rows belong to this task.
            unsafe {
                pack_rows(&starts[..count], 1, channels.len() * order.len(), packed, width, self.tiles.isa());
                for (i, channel) in channels.enumerate() {
                    for (q, &position) in order.iter().enumerate() {
                        let from = packed.wrapping_add((i * order.len() + q) * width);
                        copy_short(from, row(position, channel), width);
                    }
                }
            }
            return;
        }
        for channel in channels {
            for (position, offset) in self.window.iter().enumerate() {
                let from = from.wrapping_offset(channel as isize * self.channel + offset);
                // SAFETY: `count` features from here on lie in rhs; the panel's row belongs to this task.
                unsafe { pack_row(from, self.feature, count, row(position, channel), width) };
            }
        }
    }
}

/// # Safety
/// `from` is valid for `count` elements `step` apart, `to` for `width`.
unsafe fn pack_row(from: *const f32, step: isize, count: usize, to: *mut f32, width: usize) {
    // SAFETY: as the caller vouches.
    unsafe {
        if step == 1 {
            copy_short(from, to, count);
        } else {
            for f in 0..count {
                *to.add(f) = *from.offset(f as isize * step);
            }
        }
        zero_rest(count, 1, to, width);
    }
}

/// The window position at each offset, if they fill a range.
fn dense(window: &[isize]) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = (0..window.len()).collect();
    order.sort_by_key(|&position| window[position]);
    let first = window[*order.first()?];
    order.iter().enumerate().all(|(i, &position)| window[position] == first + i as isize).then_some(order)
}
