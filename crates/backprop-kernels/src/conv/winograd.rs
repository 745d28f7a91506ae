//! Convolutions of 3 × 3 windows by Winograd's algorithm F(2 × 2, 3 × 3): 16 multiplications instead of 36 for 2 × 2 outputs.
//!
//! Patches of 4 × 4 inputs are transformed into 16 planes, one row for each patch; each plane is multiplied by a plane of
//! transformed weights; and the 16 products of a patch become its 2 × 2 outputs. In a product every element is chunks of
//! [`KC`] channels, each one chain of fused multiply-adds, so that neither threads nor vectors change a bit. The error is about that of
//! the direct sum; see the tests. An infinity or NaN in a patch reaches all its outputs.

use std::sync::Arc;

use super::micro::Tiles;
use super::patches::InputDim;
use super::spec::{ConvDim, ConvSpec, Phase};
use super::transforms::{Outputs, PLANES, Patches, Transforms};
use super::weights::Weights;
use crate::Isa;
use crate::ahead::{Ahead, prefetch_for_writing, share};
use crate::gemm::driver::Memory;
use crate::gemm::finish::{Area, Finish, Output};
use crate::gemm::micro::{Lane, Micro, Tile};
use crate::gemm::parts::Phased;
use crate::gemm::plan::Extents;
use crate::gemm::{Epilogue, KC, round64};

/// Fewest channels and features, and most channels: short chains leave the multiply-adds waiting, long ones the caches.
const MIN_CHANNELS: usize = 16;
const MAX_CHANNELS: usize = 1024;
/// Fewest patches: of few the weights take longer than they.
const MIN_PATCHES: usize = 256;
/// Patches of a unit at most, and their elements in a plane.
const UNIT: usize = 28;
const PLANE: usize = 8192;
/// Channels up to which the planes of a register tile are finished before the next tile begins.
const SHALLOW: usize = 128;
/// Multiply-adds of a task: about 20 µs.
const TASK: usize = 2 << 20;

/// A planned convolution of that kind.
pub(super) struct Winograd {
    x: Extents,
    lhs_batch: isize,
    lhs_channel: isize,
    input: [InputDim; 2],
    output: [usize; 2],
    /// Patches along each dimension.
    patches: [usize; 2],
    weights: Weights,
    finish: Finish,
    micro: &'static Micro,
    tiles: &'static Tiles,
    transforms: &'static Transforms,
    /// Lines of patches of a unit, and patches of each.
    lines: usize,
    cols: usize,
    units_per_task: usize,
}

/// Some lines of patches, or a part of one.
struct Unit {
    line: usize,
    lines: usize,
    first: usize,
    cols: usize,
}

/// Where a unit's outputs go: its first row, the distance of rows in elements, and rows from one line of outputs to the next.
#[derive(Clone, Copy)]
struct Target {
    to: *mut f32,
    ld: isize,
    line: usize,
}

impl Winograd {
    /// Whether the algorithm is used: a function of extents alone, for it decides the bits.
    pub fn fits(phase: &Phase) -> bool {
        let ConvSpec { batch, channels, features, spatial, .. } = &phase.spec;
        let [a, b] = spatial[..] else { return false };
        let dense = |d: &ConvDim| (d.window, d.stride, d.lhs_dilation, d.rhs_dilation) == (3, 1, 1, 1) && d.output > 1;
        dense(&a)
            && dense(&b)
            && phase.groups.count == 1
            && (MIN_CHANNELS..=MAX_CHANNELS).contains(channels)
            && *features >= MIN_CHANNELS
            && phase.runs * batch * a.output.div_ceil(2) * b.output.div_ceil(2) >= MIN_PATCHES
    }

    /// Plans it for a phase that fits. Rows of `out` are numbered (batch, space).
    pub fn new(phase: &Phase, out: Output, epilogue: Option<Arc<dyn Epilogue>>, isa: Isa) -> Winograd {
        let (spec, tiles) = (&phase.spec, Tiles::of(isa));
        let [a, b] = [0, 1].map(|d| spec.spatial.get(d).copied().unwrap_or(ConvDim::UNIT));
        let x = Extents { batch: 1, m: spec.positions(), n: spec.features, k: spec.channels, runs: phase.runs, splits: None };
        let patches = [a, b].map(|d| d.output.div_ceil(2));
        let most = (PLANE / x.k).clamp(UNIT / 2, UNIT);
        let cols = patches[1].div_ceil(patches[1].div_ceil(most));
        let lines = (most / cols).clamp(1, spec.batch * patches[0]);
        Winograd {
            x,
            lhs_batch: spec.lhs_batch,
            lhs_channel: spec.lhs_channel,
            input: [a, b].map(|d| InputDim { extent: d.input, stride: d.lhs, dilation: 1, origin: -d.pad_low }),
            output: [a.output, b.output],
            patches,
            weights: Weights::new(phase, tiles),
            finish: Finish { x, out, epilogue, simd: isa != Isa::Portable },
            micro: Micro::of(isa),
            tiles,
            transforms: Transforms::of(isa),
            lines,
            cols,
            units_per_task: (TASK / (PLANES * lines * cols * x.k * x.n)).max(1),
        }
    }

    /// Lines of patches of all batches.
    fn all_lines(&self) -> usize {
        self.x.m / (self.output[0] * self.output[1]) * self.patches[0]
    }

    /// Units along a line.
    fn across(&self) -> usize {
        self.patches[1].div_ceil(self.cols)
    }

    fn units(&self) -> usize {
        self.all_lines().div_ceil(self.lines) * self.across()
    }

    fn unit(&self, unit: usize) -> Unit {
        let (line, first) = (unit / self.across() * self.lines, unit % self.across() * self.cols);
        let lines = self.lines.min(self.all_lines() - line);
        Unit { line, lines, first, cols: self.cols.min(self.patches[1] - first) }
    }

    /// The row of the first output of a patch.
    fn row(&self, line: usize, patch: usize) -> usize {
        let (batch, line) = (line / self.patches[0], line % self.patches[0]);
        (batch * self.output[0] + 2 * line) * self.output[1] + 2 * patch
    }

    /// Distance of patches in a plane of the input, in elements.
    fn patch(&self) -> usize {
        let whole = self.x.k.next_multiple_of(16);
        // Rows a multiple of 4 KiB apart would share too few sets of the first-level cache.
        if whole.is_multiple_of(1024) { whole + 16 } else { whole }
    }

    /// Distance of the planes of the input: five cache lines more than a multiple of 4 KiB.
    fn plane(&self) -> usize {
        (self.lines * self.cols * self.patch()).next_multiple_of(1024) + 80
    }

    /// Patches whose products are formed before they become outputs.
    fn group(&self) -> usize {
        let all = self.lines * self.cols;
        if self.x.k <= SHALLOW { self.micro.rows.min(all) } else { all }
    }

    fn planes_bytes(&self) -> usize {
        round64(4 * PLANES * self.plane())
    }

    fn products_bytes(&self) -> usize {
        round64(4 * PLANES * self.group() * self.tiles.cols())
    }

    fn staged_bytes(&self) -> usize {
        if self.finish.in_place().is_some() { 0 } else { round64(4 * 4 * self.lines * self.cols * self.x.n) }
    }

    /// Room for a patch whose channels are not adjacent.
    fn gathered_bytes(&self) -> usize {
        if self.lhs_channel == 1 { 0 } else { 4 * PLANES * KC }
    }

    /// Offset of the transformed weights of a panel in the workspace, in elements; planes follow each other.
    fn panel(&self, col: usize) -> usize {
        round64(4 * self.weights.size()) / 4 + PLANES * self.x.k * col
    }

    /// # Safety
    /// As [`Phased::run`].
    unsafe fn prepare(&self, task: usize, memory: Memory<'_>) {
        let workspace: *mut f32 = memory.workspace.cast();
        let (col, width, channels) = self.weights.part(task);
        // SAFETY: as the caller vouches; the task's channels of its panel are its own, here and there.
        unsafe {
            self.weights.pack(task, memory.operands[1].cast(), workspace, memory.scratch);
            for channel in channels {
                let row = |w: usize| workspace.wrapping_add(self.weights.at(0, w * self.x.k + channel, col, width)).cast_const();
                let to = workspace.wrapping_add(self.panel(col) + channel * width);
                self.transforms.weights(&std::array::from_fn(row), to, self.x.k * width, width);
            }
        }
    }

    /// The parts of lines that some patches of a unit are: the number of the first one, its line and its place there, and their count.
    fn segments(&self, unit: &Unit, first: usize, count: usize) -> impl Iterator<Item = (usize, usize, usize, usize)> {
        let (start, cols, end) = (unit.line, unit.cols, first + count);
        let from = unit.first;
        (first / cols..end.div_ceil(cols)).map(move |line| {
            let number = first.max(line * cols);
            (number, start + line, from + number - line * cols, end.min((line + 1) * cols) - number)
        })
    }

    /// Transforms the patches of a unit.
    ///
    /// # Safety
    /// As [`Phased::run`]; `to` has room for the planes.
    unsafe fn read(&self, unit: &Unit, lhs: *const f32, to: *mut f32, gathered: *mut f32) {
        // Where channels are not adjacent, patches are gathered one by one.
        let most = if self.lhs_channel == 1 { usize::MAX } else { 1 };
        for (number, line, at, count) in self.segments(unit, 0, unit.lines * unit.cols) {
            for done in (0..count).step_by(most) {
                let count = (count - done).min(most);
                for channel in (0..self.x.k).step_by(KC) {
                    let channels = (self.x.k - channel).min(KC);
                    let to = to.wrapping_add((number + done) * self.patch() + channel);
                    let lhs = lhs.wrapping_offset(channel as isize * self.lhs_channel);
                    let mut patches = self.line(line, at + done, count, lhs, to);
                    // SAFETY: columns that exist lie in the input, or are zeros.
                    unsafe {
                        if self.lhs_channel != 1 {
                            patches.gather(self.lhs_channel, channels, gathered);
                        }
                        self.transforms.input(&patches, channels);
                    }
                }
            }
        }
    }

    /// The input of patches side by side.
    fn line(&self, line: usize, at: usize, count: usize, lhs: *const f32, to: *mut f32) -> Patches {
        let batch = lhs.wrapping_offset((line / self.patches[0]) as isize * self.lhs_batch);
        let patches = Patches::of(&self.input, [line % self.patches[0], at], count, batch);
        Patches { to, plane: self.plane(), step: self.patch(), ..patches }
    }

    /// The products of a group of patches with a panel of weights, in every plane.
    ///
    /// # Safety
    /// As [`Phased::run`]; `a` is the group's first patch, `c` has room for the group.
    unsafe fn multiply(
        &self,
        a: *const f32,
        patches: usize,
        (b, cols, width): (*const f32, usize, usize),
        c: *mut f32,
        ahead: &mut Ahead,
    ) {
        for plane in 0..PLANES {
            for (row, rows) in Tiles::bands(patches, self.micro.rows) {
                let tile = self.micro.tile(false, width / self.micro.lanes, rows);
                let to = c.wrapping_add((plane * patches + row) * width);
                for line in (0..rows * width).step_by(16) {
                    prefetch_for_writing(to.wrapping_add(line));
                }
                for channel in (0..self.x.k).step_by(KC) {
                    let sums = Tile {
                        k: (self.x.k - channel).min(KC),
                        a: a.wrapping_add(plane * self.plane() + row * self.patch() + channel),
                        a_row: self.patch() as isize,
                        a_step: 1,
                        b: b.wrapping_add((plane * self.x.k + channel) * width),
                        b_step: width as isize,
                        cols,
                        c: to,
                        c_row: width as isize,
                        add: channel > 0,
                        ahead: Lane::NONE,
                    };
                    // SAFETY: the tile lies within the group and the panel.
                    unsafe { tile(&sums) };
                    ahead.fetch();
                }
            }
        }
    }

    /// The input that the next lines of patches are the first to meet, a part of it to be fetched after each register tile.
    fn ahead(&self, unit: &Unit, lhs: *const f32) -> Ahead {
        let [outer, inner] = &self.input;
        let batch = lhs.wrapping_offset((unit.line / self.patches[0]) as isize * self.lhs_batch);
        let y = outer.origin + 2 * (unit.line % self.patches[0] + unit.lines) as isize + 2;
        let bytes = 4 * 2 * unit.lines * outer.stride.unsigned_abs() * unit.cols / self.patches[1];
        let tiles = PLANES * self.x.n.div_ceil(self.tiles.cols()) * (unit.lines * unit.cols).div_ceil(self.micro.rows);
        let mut ahead = Ahead::new(share(bytes, tiles * self.x.chunks()));
        let start = batch.wrapping_offset(y * outer.stride + (inner.origin + 2 * unit.first as isize) * inner.stride);
        ahead.follow(start.cast::<u8>().wrapping_sub(bytes), bytes);
        ahead
    }

    /// Where the outputs of patches side by side go, from a column on.
    fn outputs(&self, unit: &Unit, (line, at, count): (usize, usize, usize), col: usize, target: Target) -> Outputs {
        let first = (self.row(line, at) - self.row(unit.line, unit.first)) as isize;
        Outputs {
            count,
            from: std::ptr::null(),
            plane: 0,
            step: 0,
            to: target.to.wrapping_offset(first * target.ld).wrapping_add(col),
            col: target.ld,
            row: target.line as isize * target.ld,
            cols: self.output[1] - 2 * at,
            rows: (self.output[0] - 2 * (line % self.patches[0])).min(2),
        }
    }

    /// # Safety
    /// As [`Phased::run`].
    unsafe fn compute(&self, unit: &Unit, memory: Memory<'_>) {
        let planes: *mut f32 = memory.scratch.cast();
        let products = planes.wrapping_add(self.planes_bytes() / 4);
        let staged = products.wrapping_add(self.products_bytes() / 4);
        let gathered = staged.wrapping_add(self.staged_bytes() / 4);
        // SAFETY: the parts of the scratch have room for a unit.
        unsafe { self.read(unit, memory.operands[0].cast(), planes, gathered) };
        let target = self.target(unit, staged, memory);
        self.areas(unit, target.line).for_each(|(area, _)| self.finish.fetch(area, memory.operands));
        let mut ahead = self.ahead(unit, memory.operands[0].cast());
        for (col, count, width) in self.tiles.panels(self.x.n) {
            let b = memory.workspace.cast::<f32>().cast_const().wrapping_add(self.panel(col));
            let (all, group) = (unit.lines * unit.cols, self.group());
            for (first, patches) in Tiles::bands(all, group) {
                // SAFETY: the group lies within the unit.
                unsafe {
                    self.multiply(planes.wrapping_add(first * self.patch()), patches, (b, count, width), products, &mut ahead)
                };
                for (number, line, at, some) in self.segments(unit, first, patches) {
                    let from = products.cast_const().wrapping_add((number - first) * width);
                    let to = self.outputs(unit, (line, at, some), col, target);
                    let outputs = Outputs { from, plane: patches * width, step: width, ..to };
                    // SAFETY: the planes of the products hold the patches; outputs that exist lie in the target.
                    unsafe { self.transforms.output(&outputs, count) };
                }
            }
        }
        if self.finish.in_place().is_none() {
            let scratch = gathered.wrapping_add(self.gathered_bytes() / 4).cast();
            for (area, row) in self.areas(unit, target.line) {
                let tile = target.to.wrapping_add(row * self.x.n);
                // SAFETY: the staged rows are complete.
                unsafe { self.finish.area(area, tile, self.x.n, memory.operands, scratch) };
            }
        }
    }

    /// The output itself, or else the staged rows of a unit.
    fn target(&self, unit: &Unit, staged: *mut f32, memory: Memory<'_>) -> Target {
        if let Some(ld) = self.finish.in_place() {
            let row = self.row(unit.line, unit.first) as isize;
            return Target { to: self.finish.output(0, memory.operands).wrapping_offset(row * ld), ld, line: self.output[1] };
        }
        let line = if self.across() == 1 { self.output[1] } else { 2 * unit.cols };
        Target { to: staged, ld: self.x.n as isize, line }
    }

    /// The staged rows of a unit, each with its first row there: at once where they follow each other.
    fn areas(&self, unit: &Unit, line: usize) -> impl Iterator<Item = (Area, usize)> {
        let [height, width] = self.output;
        let row0 = self.row(unit.line, unit.first);
        let rows_of = |line: usize| (height - 2 * (line % self.patches[0])).min(2);
        let (parts, rows) = if self.across() == 1 {
            let last = unit.line + unit.lines - 1;
            (1, self.row(last, 0) + rows_of(last) * width - row0)
        } else {
            (rows_of(unit.line), (width - 2 * unit.first).min(2 * unit.cols))
        };
        let cols = self.x.n;
        (0..parts).map(move |part| (Area { batch: 0, row0: row0 + part * width, rows, col0: 0, cols }, part * line))
    }
}

impl Phased for Winograd {
    fn tasks(&self, phase: usize) -> usize {
        match phase {
            0 => self.weights.tasks(),
            1 => self.units().div_ceil(self.units_per_task),
            _ => 0,
        }
    }

    fn shares(&self) -> bool {
        true
    }

    fn workspace(&self) -> usize {
        round64(4 * self.weights.size()) + round64(4 * PLANES * self.x.k * self.x.n.next_multiple_of(self.tiles.lanes))
    }

    fn scratch(&self) -> usize {
        let unit = self.planes_bytes() + self.products_bytes() + self.staged_bytes() + self.gathered_bytes();
        (unit + self.finish.scratch()).max(self.weights.scratch())
    }

    unsafe fn run(&self, phase: usize, task: usize, memory: Memory<'_>) {
        if phase == 0 {
            // SAFETY: as the caller vouches.
            return unsafe { self.prepare(task, memory) };
        }
        let first = task * self.units_per_task;
        for unit in first..self.units().min(first + self.units_per_task) {
            // SAFETY: as the caller vouches.
            unsafe { self.compute(&self.unit(unit), memory) };
        }
    }
}
