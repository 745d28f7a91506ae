//! Weight gradients of 3 × 3 windows by Winograd's algorithm F(3 × 3, 2 × 2): the derivative of [`winograd`](super::winograd) by the
//! weights, with its transforms turned round.
//!
//! Patches of 4 × 4 inputs and of 2 × 2 gradients become 16 numbers each. For every plane of them, channels times features, the products
//! are summed over the patches, in chunks of a constant number: each one chain of fused multiply-adds. The sums become windows.

use std::ops::Range;
use std::sync::Arc;

use super::micro::Tiles;
use super::patches::InputDim;
use super::spec::{ConvDim, Phase};
use super::transforms::{PLANES, Patches, Transforms};
use crate::Isa;
use crate::gemm::driver::Memory;
use crate::gemm::finish::{Area, Finish, Output};
use crate::gemm::micro::{Lane, Micro, Tile};
use crate::gemm::parts::Phased;
use crate::gemm::plan::Extents;
use crate::gemm::{Epilogue, KC, round64};

/// Channels and features: short rows leave the multiply-adds waiting, of long ones the sums outgrow the caches.
const CHANNELS: Range<usize> = 16..129;
/// Fewest patches.
const MIN_PATCHES: usize = 1024;
/// Patches of a chunk at most, and their numbers in the planes of channels and features.
const CHUNK: usize = 64;
const NUMBERS: usize = 12_288;
/// Parts that are summed by themselves at most, and the numbers they hold.
const PARTS: usize = 16;
const HELD: usize = 1 << 20;
/// Features of a block.
const COLS: usize = 64;
/// Numbers a task that adds parts reads: about 20 µs.
const MOVED: usize = 1 << 16;

/// An operand whose patches are transformed.
struct Side {
    batch: isize,
    channel: isize,
    dims: [InputDim; 2],
    /// Rows of a patch.
    rows: usize,
}

/// A planned weight gradient of that kind.
pub(super) struct WinogradGradient {
    channels: usize,
    features: usize,
    lhs: Side,
    rhs: Side,
    rhs_offset: isize,
    /// Patches along each dimension, and lines of them in all batches.
    patches: [usize; 2],
    all_lines: usize,
    /// Lines of a chunk, and patches of each.
    lines: usize,
    cols: usize,
    parts: usize,
    finish: Finish,
    micro: &'static Micro,
    tiles: &'static Tiles,
    transforms: &'static Transforms,
}

impl WinogradGradient {
    /// Whether the algorithm is used: a function of extents alone, for it decides the bits.
    pub fn fits(phase: &Phase) -> bool {
        let spec = &phase.spec;
        let [n, a, b] = spec.spatial[..] else { return false };
        let whole = n.output == 1 && n.window == n.input && (n.stride, n.lhs_dilation, n.rhs_dilation, n.pad_low) == (1, 1, 1, 0);
        let dense = |d: &ConvDim| (d.output, d.stride, d.lhs_dilation, d.rhs_dilation) == (3, 1, 1, 1) && d.window > 1;
        whole
            && dense(&a)
            && dense(&b)
            && phase.groups.count == 1
            && spec.channels == 1
            && CHANNELS.contains(&spec.batch)
            && CHANNELS.contains(&spec.features)
            && n.window * a.window.div_ceil(2) * b.window.div_ceil(2) >= MIN_PATCHES
    }

    /// Plans it for a phase that fits. Rows of `out` are numbered (channel, space).
    pub fn new(phase: &Phase, out: Output, epilogue: Option<Arc<dyn Epilogue>>, isa: Isa) -> WinogradGradient {
        let spec = &phase.spec;
        let [n, a, b] = [0, 1, 2].map(|d| spec.spatial.get(d).copied().unwrap_or(ConvDim::UNIT));
        let patches = [a, b].map(|d| d.window.div_ceil(2));
        let most = (NUMBERS / (spec.batch + spec.features)).min(CHUNK);
        let cols = patches[1].div_ceil(patches[1].div_ceil(most));
        let all_lines = n.window * patches[0];
        let lines = (most / cols).clamp(1, all_lines);
        let chunks = all_lines.div_ceil(lines) * patches[1].div_ceil(cols);
        let held = PLANES * spec.batch * spec.features;
        let x = Extents { batch: 1, m: spec.positions(), n: spec.features, k: 1, runs: phase.runs, splits: None };
        let input = |d: &ConvDim| InputDim { extent: d.input, stride: d.lhs, dilation: 1, origin: -d.pad_low };
        let gradient = |d: &ConvDim| InputDim { extent: d.window, stride: d.rhs, dilation: 1, origin: 0 };
        WinogradGradient {
            channels: spec.batch,
            features: spec.features,
            lhs: Side { batch: n.lhs, channel: spec.lhs_batch, dims: [&a, &b].map(input), rows: 4 },
            rhs: Side { batch: n.rhs, channel: spec.rhs_feature, dims: [&a, &b].map(gradient), rows: 2 },
            rhs_offset: phase.rhs,
            patches,
            all_lines,
            lines,
            cols,
            parts: (HELD / held).clamp(1, PARTS).min(chunks),
            finish: Finish { x, out, epilogue, simd: isa != Isa::Portable },
            micro: Micro::of(isa),
            tiles: Tiles::of(isa),
            transforms: Transforms::of(isa),
        }
    }

    /// Chunks along a line.
    fn across(&self) -> usize {
        self.patches[1].div_ceil(self.cols)
    }

    fn chunks(&self) -> usize {
        self.all_lines.div_ceil(self.lines) * self.across()
    }

    /// Distance of patches in a plane of so many channels, and of the planes: five cache lines more than a multiple of 4 KiB.
    fn steps(&self, channels: usize) -> (usize, usize) {
        let step = channels.next_multiple_of(16);
        (step, (self.lines * self.cols * step).next_multiple_of(1024) + 80)
    }

    fn planes_bytes(&self, channels: usize) -> usize {
        round64(4 * PLANES * self.steps(channels).1)
    }

    /// Room for a patch whose channels are not adjacent.
    fn gathered_bytes(&self) -> usize {
        if self.lhs.channel == 1 && self.rhs.channel == 1 { 0 } else { 4 * 16 * KC }
    }

    /// Transforms a chunk of an operand: `channels` of them.
    ///
    /// # Safety
    /// As [`Phased::run`]; `from` is the first of the channels, `to` has room for the planes.
    unsafe fn read(
        &self,
        side: &Side,
        chunk: usize,
        channels: usize,
        from: *const f32,
        to: *mut f32,
        gathered: *mut f32,
    ) -> usize {
        let (line, first) = (chunk / self.across() * self.lines, chunk % self.across() * self.cols);
        let (lines, cols) = (self.lines.min(self.all_lines - line), self.cols.min(self.patches[1] - first));
        let (step, plane) = self.steps(channels);
        // Where channels are not adjacent, patches are gathered one by one.
        let most = if side.channel == 1 { cols } else { 1 };
        for number in 0..lines {
            for at in (0..cols).step_by(most) {
                let to = to.wrapping_add((number * cols + at) * step);
                let mut patches = self.line(side, line + number, first + at, most.min(cols - at), from);
                (patches.to, patches.plane, patches.step) = (to, plane, step);
                // SAFETY: columns that exist lie in the operand, or are zeros.
                unsafe {
                    if side.channel != 1 {
                        patches.gather(side.channel, channels, gathered);
                    }
                    if side.rows == 4 {
                        self.transforms.input(&patches, channels);
                    } else {
                        self.transforms.gradient(&patches, channels);
                    }
                }
            }
        }
        lines * cols
    }

    /// Patches of an operand side by side.
    fn line(&self, side: &Side, line: usize, at: usize, count: usize, from: *const f32) -> Patches {
        let from = from.wrapping_offset((line / self.patches[0]) as isize * side.batch);
        Patches::of(&side.dims, [line % self.patches[0], at], count, from)
    }

    /// Where a part's sums lie: planes of channels times features.
    fn sums(&self, part: usize, workspace: *mut u8) -> *mut f32 {
        workspace.cast::<f32>().wrapping_add(part * PLANES * self.channels * self.features)
    }

    /// Sums the products of the chunks of a part for a block of features.
    ///
    /// # Safety
    /// As [`Phased::run`].
    unsafe fn compute(&self, task: usize, memory: Memory<'_>) {
        let blocks = self.features.div_ceil(COLS);
        let (part, col0) = (task / blocks, task % blocks * COLS);
        let cols = (self.features - col0).min(COLS);
        let a: *mut f32 = memory.scratch.cast();
        let b = a.wrapping_add(self.planes_bytes(self.channels) / 4);
        let gathered = b.wrapping_add(self.planes_bytes(COLS.min(self.features)) / 4);
        let lhs = memory.operands[0].cast::<f32>().cast_const();
        let rhs =
            memory.operands[1].cast::<f32>().cast_const().wrapping_offset(self.rhs_offset + col0 as isize * self.rhs.channel);
        let first = part * self.chunks() / self.parts;
        for chunk in first..(part + 1) * self.chunks() / self.parts {
            // SAFETY: the scratch has room for the planes of both operands; the sums of the block are this task's own.
            unsafe {
                let terms = self.read(&self.lhs, chunk, self.channels, lhs, a, gathered);
                self.read(&self.rhs, chunk, cols, rhs, b, gathered);
                self.multiply(terms, a, b, cols, self.sums(part, memory.workspace).wrapping_add(col0), chunk > first);
            }
        }
    }

    /// # Safety
    /// As [`Phased::run`]; the planes hold so many terms, `c` is the first sum of the block.
    unsafe fn multiply(&self, k: usize, a: *const f32, b: *const f32, cols: usize, c: *mut f32, add: bool) {
        let (a_step, a_plane) = self.steps(self.channels);
        let (b_step, b_plane) = self.steps(cols);
        for plane in 0..PLANES {
            for (col, count, width) in self.tiles.panels(cols) {
                for (row, rows) in Tiles::bands(self.channels, self.micro.rows) {
                    let sums = Tile {
                        k,
                        a: a.wrapping_add(plane * a_plane + row),
                        a_row: 1,
                        a_step: a_step as isize,
                        b: b.wrapping_add(plane * b_plane + col),
                        b_step: b_step as isize,
                        cols: count,
                        c: c.wrapping_add((plane * self.channels + row) * self.features + col),
                        c_row: self.features as isize,
                        add,
                        ahead: Lane::NONE,
                    };
                    // SAFETY: the tile lies within the block.
                    unsafe { self.micro.tile(true, width / self.micro.lanes, rows)(&sums) };
                }
            }
        }
    }

    /// Channels whose parts a task adds.
    fn group(&self) -> usize {
        (MOVED / (PLANES * self.features * self.parts)).clamp(1, self.channels)
    }

    /// Adds the parts of some channels in a fixed tree and turns the sums into windows.
    ///
    /// # Safety
    /// As [`Phased::run`]; the sums are complete.
    unsafe fn combine(&self, task: usize, memory: Memory<'_>) {
        let first = task * self.group();
        let count = self.group().min(self.channels - first);
        let plane = self.channels * self.features;
        let at = |part: usize| self.sums(part, memory.workspace).wrapping_add(first * self.features);
        let mut step = 1;
        while step < self.parts {
            for left in (0..self.parts - step).step_by(2 * step) {
                for i in 0..PLANES {
                    // SAFETY: the parts are disjoint, and these channels of them are this task's alone.
                    let (left, right) = unsafe {
                        (
                            std::slice::from_raw_parts_mut(at(left).add(i * plane), count * self.features),
                            std::slice::from_raw_parts(at(left + step).add(i * plane), count * self.features),
                        )
                    };
                    left.iter_mut().zip(right).for_each(|(l, r)| *l += r);
                }
            }
            step *= 2;
        }
        let tile: *mut f32 = memory.scratch.cast();
        let scratch = memory.scratch.wrapping_add(self.tile_bytes());
        for channel in 0..count {
            let to = tile.wrapping_add(9 * channel * self.features);
            // SAFETY: the planes of the first part hold the sums; the tile has room for the windows of a group.
            unsafe { self.transforms.window(at(0).add(channel * self.features), plane, to, self.features) };
        }
        let area = Area { batch: 0, row0: 9 * first, rows: 9 * count, col0: 0, cols: self.features };
        // SAFETY: as the caller vouches.
        unsafe { self.finish.area(area, tile, self.features, memory.operands, scratch) };
    }

    fn tile_bytes(&self) -> usize {
        round64(4 * 9 * self.group() * self.features)
    }
}

impl Phased for WinogradGradient {
    fn tasks(&self, phase: usize) -> usize {
        match phase {
            0 => 0,
            1 => self.parts * self.features.div_ceil(COLS),
            _ => self.channels.div_ceil(self.group()),
        }
    }

    fn workspace(&self) -> usize {
        round64(4 * self.parts * PLANES * self.channels * self.features)
    }

    fn scratch(&self) -> usize {
        let planes = self.planes_bytes(self.channels) + self.planes_bytes(COLS.min(self.features));
        (planes + self.gathered_bytes()).max(self.tile_bytes() + self.finish.scratch())
    }

    unsafe fn run(&self, phase: usize, task: usize, memory: Memory<'_>) {
        // SAFETY: as the caller vouches.
        unsafe { if phase == 1 { self.compute(task, memory) } else { self.combine(task, memory) } }
    }
}
