//! Convolutions that read their input where it lies: a register tile takes the addresses of its rows, one for each window
//! position, and runs along the channels.

use std::ops::Range;
use std::sync::Arc;

use super::lines::{Lines, MAX_ROWS, addresses};
use super::micro::{Gathered, Run, Target, Tiles};
use super::pad::Pad;
use super::patches::{MAX_RANK, Patches};
use super::spec::{ConvSpec, Phase};
use super::terms::Dim;
use super::weights::Weights;
use crate::Isa;
use crate::ahead::{Ahead, share};
use crate::gemm::driver::Memory;
use crate::gemm::finish::{Area, Finish, Output};
use crate::gemm::parts::Phased;
use crate::gemm::plan::{Extents, SMALL};
use crate::gemm::{Epilogue, KC, round64};

/// Columns of a block at most: their weights of one chunk stay in the second-level cache.
const COLS: usize = 256;
/// Multiply-adds of a task: 15 to 50 µs.
const TASK: Range<usize> = 3 << 19..6 << 20;

/// Batches of a tile that goes across them, and multiply-adds of such a task. Positions of a batch it does so for at most: where little
/// of the window lies in the padding, and where at least that share does.
const ACROSS: usize = 12;
const MAX_POSITIONS: [usize; 2] = [64, 256];
const PADDING: f64 = 0.3;
const ACROSS_TASK: usize = 60 << 20;

type AddressesFn = unsafe fn(&Lines, &Patches, &[isize; MAX_RANK], *const f32, *mut *const f32);

/// A planned convolution whose channels are adjacent and whose input has no holes.
pub(super) struct Indirect {
    x: Extents,
    patches: Patches,
    pad: Option<Pad>,
    weights: Weights,
    finish: Finish,
    tiles: &'static Tiles,
    addresses: AddressesFn,
    rows: usize,
    cols: usize,
    /// Positions of a batch, if register tiles go across batches: then all rows of a tile meet the same window positions.
    across: Option<usize>,
    units_per_task: usize,
}

/// A block of the output and the chunks it sums.
struct Unit {
    area: Area,
    split: usize,
}

impl Indirect {
    /// Plans it for patches of the input, or of a copy between zeros.
    pub fn new(
        phase: &Phase,
        patches: Patches,
        pad: Option<Pad>,
        out: Output,
        epilogue: Option<Arc<dyn Epilogue>>,
        isa: Isa,
    ) -> Indirect {
        let tiles = Tiles::of(isa);
        let x = phase.extents();
        let across = across(phase, &patches);
        let (rows, cols) = block(x, across, tiles);
        let unit = rows * cols * x.k.div_ceil(x.splits());
        let units_per_task =
            if x.multiply_adds() <= SMALL && x.runs == 1 { usize::MAX } else { (TASK.start / 2 / unit.max(1)).max(1) };
        Indirect {
            x,
            patches,
            pad,
            weights: Weights::new(phase, tiles),
            finish: Finish { x, out, epilogue, simd: isa != Isa::Portable },
            tiles,
            addresses: addresses(isa),
            rows,
            cols,
            across,
            units_per_task,
        }
    }

    fn units(&self) -> usize {
        self.x.batch * self.x.splits() * self.x.n.div_ceil(self.cols) * self.x.m.div_ceil(self.rows)
    }

    /// So little work that one task does everything.
    fn is_small(&self) -> bool {
        self.units_per_task == usize::MAX
    }

    fn unit(&self, unit: usize) -> Unit {
        let (row_blocks, col_blocks) = (self.x.m.div_ceil(self.rows), self.x.n.div_ceil(self.cols));
        let (row0, rest) = (unit % row_blocks * self.rows, unit / row_blocks);
        let (col0, rest) = (rest % col_blocks * self.cols, rest / col_blocks);
        let (split, batch) = (rest % self.x.splits(), rest / self.x.splits());
        let (rows, cols) = ((self.x.m - row0).min(self.rows), (self.x.n - col0).min(self.cols));
        Unit { area: Area { batch, row0, rows, col0, cols }, split }
    }

    /// Rows whose addresses are known at a time.
    fn table_rows(&self) -> usize {
        self.rows / self.across.unwrap_or(1)
    }

    /// Addresses of these rows for the runs of one chunk.
    fn table_bytes(&self) -> usize {
        let runs = self.x.k.min(KC).div_ceil(self.patches.channels.max(1)) + 1;
        round64(runs.min(KC) * self.table_rows() * size_of::<*const f32>())
    }

    fn tile_bytes(&self) -> usize {
        if self.finish.in_place().is_some() || self.x.splits() > 1 { 0 } else { round64(4 * self.rows * self.cols) }
    }

    fn partials(&self, workspace: *mut u8) -> *mut f32 {
        self.copy(workspace).wrapping_add(self.pad_bytes() / 4)
    }

    fn pad_bytes(&self) -> usize {
        round64(4 * self.pad.as_ref().map_or(0, Pad::size))
    }

    /// Where a copy of the input lies.
    fn copy(&self, workspace: *mut u8) -> *mut f32 {
        workspace.wrapping_add(round64(4 * self.weights.size())).cast()
    }

    /// Tasks of packing weights and copying the input.
    fn prepare_tasks(&self) -> usize {
        self.weights.tasks() + self.pad.as_ref().map_or(0, Pad::tasks)
    }

    /// # Safety
    /// As [`Phased::run`].
    unsafe fn prepare(&self, task: usize, memory: Memory<'_>) {
        // SAFETY: as the caller vouches; every task has its own part of the workspace.
        unsafe {
            match (&self.pad, task.checked_sub(self.weights.tasks())) {
                (Some(pad), Some(task)) => pad.copy(task, memory.operands[0].cast(), self.copy(memory.workspace)),
                _ => self.weights.pack(task, memory.operands[1].cast(), memory.workspace.cast(), memory.scratch),
            }
        }
    }

    /// Where a block's sums are formed, and the distance between its rows.
    fn destination(&self, unit: &Unit, memory: Memory<'_>) -> (*mut f32, isize) {
        let Area { batch, row0, col0, .. } = unit.area;
        let x = &self.x;
        if x.splits() > 1 {
            let row = (unit.split * x.batch + batch) * x.m + row0;
            return (self.partials(memory.workspace).wrapping_add(row * x.n + col0), x.n as isize);
        }
        if let Some(stride) = self.finish.in_place() {
            let offset = row0 as isize * stride + col0 as isize;
            return (self.finish.output(batch, memory.operands).wrapping_offset(offset), stride);
        }
        (memory.scratch.wrapping_add(self.table_bytes()).cast(), self.cols as isize)
    }

    /// # Safety
    /// As [`Phased::run`].
    unsafe fn compute(&self, unit: &Unit, lines: &mut Lines, memory: Memory<'_>) {
        let area = unit.area;
        if self.across.is_none() {
            lines.fill(&self.patches, area.row0, area.rows);
        }
        let (to, ld) = self.destination(unit, memory);
        let lhs = if self.pad.is_some() { self.copy(memory.workspace) } else { memory.operands[0].cast() };
        let lhs = lhs.cast_const().wrapping_offset(self.patches.groups.offset(area.batch));
        let table: *mut *const f32 = memory.scratch.cast();
        let mut runs = [Run::default(); KC];
        let mut ahead = self.ahead(lines, lhs, area);
        let positions = self.across.unwrap_or(1);
        let (chunks, splits) = (self.x.chunks(), self.x.splits());
        let first = unit.split * chunks / splits;
        for chunk in first..(unit.split + 1) * chunks / splits {
            for position in 0..positions {
                if self.across.is_some() {
                    lines.fill_across(&self.patches, area.row0 + position, area.rows / positions);
                }
                let to = (to.wrapping_offset(position as isize * ld), ld * positions as isize);
                // SAFETY: the table has room for the runs of a chunk; the destination is this unit's own.
                unsafe {
                    let runs = self.address(chunk, lines, lhs, table, &mut runs);
                    self.multiply(unit, chunk, runs, table, to, chunk > first, memory, &mut ahead);
                }
            }
        }
        if splits == 1 && self.finish.in_place().is_none() {
            let scratch = memory.scratch.wrapping_add(self.table_bytes() + self.tile_bytes());
            // SAFETY: the tile holds the finished area.
            unsafe { self.finish.area(area, to, ld as usize, memory.operands, scratch) };
        }
    }

    /// The input that the next block is the first to meet, a part of it to be fetched after each register tile.
    fn ahead(&self, lines: &Lines, lhs: *const f32, area: Area) -> Ahead {
        let (Some(row), None) = (self.patches.rows.last(), self.across) else { return Ahead::new(0) };
        if self.x.k == 0 {
            return Ahead::new(0);
        }
        let window: usize = self.patches.window.iter().map(|w| w.0).product();
        let last = self.patches.window(window - 1);
        let shift: isize = self.patches.input.iter().zip(last).map(|(input, at)| at * input.stride).sum();
        let bytes = area.rows * row.offset.unsigned_abs() * size_of::<f32>();
        let tiles = self.x.chunks().div_ceil(self.x.splits())
            * area.rows.div_ceil(self.tiles.rows)
            * area.cols.div_ceil(self.tiles.cols());
        let mut ahead = Ahead::new(share(bytes, tiles));
        ahead.follow(lhs.wrapping_offset(lines.start() + shift).cast(), bytes);
        ahead
    }

    /// The runs of a chunk, and the addresses of the rows for each. Across batches, runs in the padding are left out.
    ///
    /// # Safety
    /// As [`Phased::run`]; the table has room for the runs of a chunk.
    unsafe fn address<'r>(
        &self,
        chunk: usize,
        lines: &Lines,
        lhs: *const f32,
        mut table: *mut *const f32,
        runs: &'r mut [Run; KC],
    ) -> &'r [Run] {
        let channels = self.patches.channels;
        let (mut term, end) = (chunk * KC, self.x.k.min((chunk + 1) * KC));
        let mut count = 0;
        while term < end {
            let (position, channel) = (term / channels, term % channels);
            let terms = (channels - channel).min(end - term);
            let window = self.patches.window(position);
            let lhs = lhs.wrapping_add(channel);
            let meets = if self.across.is_some() {
                // SAFETY: as the caller vouches.
                unsafe { lines.across(&self.patches, &window, lhs, table) }
            } else {
                // SAFETY: as the caller vouches; the processor has the instructions the plan was made for.
                unsafe { (self.addresses)(lines, &self.patches, &window, lhs, table) };
                true
            };
            if meets {
                runs[count] = Run { first: term % KC, terms };
                table = table.wrapping_add(self.table_rows());
                count += 1;
            }
            term += terms;
        }
        &runs[..count]
    }

    /// One chunk of one block: every register tile of it.
    ///
    /// # Safety
    /// As [`Phased::run`]; the table holds the addresses of the runs, `to` is valid for the rows of the table, `ld` apart.
    #[expect(clippy::too_many_arguments, reason = "the block, its operands and its destination")]
    unsafe fn multiply(
        &self,
        unit: &Unit,
        chunk: usize,
        runs: &[Run],
        table: *const *const f32,
        (to, ld): (*mut f32, isize),
        add: bool,
        memory: Memory<'_>,
        ahead: &mut Ahead,
    ) {
        let Area { batch, row0, rows, col0, cols } = unit.area;
        let last = self.x.splits() == 1 && self.across.is_none() && chunk + 1 == self.x.chunks();
        let fresh = !add && self.finish.in_place().is_some();
        for (col, count, width) in self.tiles.panels(cols) {
            let b = memory.workspace.cast::<f32>().wrapping_add(self.weights.at(batch, chunk * KC, col0 + col, width));
            for (row, height) in Tiles::bands(rows / self.across.unwrap_or(1), self.tiles.rows) {
                let c = to.wrapping_offset(row as isize * ld).wrapping_add(col);
                let to = Target { cols: count, c, c_row: ld, add };
                let rows = table.wrapping_add(row);
                let tile = Gathered { runs, rows, rows_step: self.table_rows(), b, to, fresh };
                if last {
                    let area = Area { row0: row0 + row, rows: height, col0: col0 + col, cols: count, ..unit.area };
                    self.finish.fetch(area, memory.operands);
                }
                // SAFETY: the tile lies within the block.
                unsafe { self.tiles.gathered[width / self.tiles.lanes - 1][height - 1](&tile) };
                ahead.fetch();
            }
        }
    }
}

/// Positions of a batch for which register tiles go across batches: much of a small input's window lies in the padding.
fn across(phase: &Phase, patches: &Patches) -> Option<usize> {
    let positions = phase.spec.positions().checked_div(phase.spec.batch)?;
    let batches = patches.rows.first()?;
    let fits = batches.spatial.is_none() && batches.extent == phase.spec.batch && patches.rows.len() > 1;
    let most = MAX_POSITIONS[usize::from(padding(&phase.spec) >= PADDING)];
    let small = phase.spec.batch >= ACROSS && (2..=most).contains(&positions);
    (fits && small && !patches.bounded).then_some(positions)
}

/// The share of positions and window elements that meet the padding, of inputs without holes.
fn padding(spec: &ConvSpec) -> f64 {
    let inside = |d: Dim| (0..d.taps).map(|tap| d.valid(tap).len()).sum::<usize>() as f64 / (d.taps * d.terms).max(1) as f64;
    1.0 - Dim::all(spec).into_iter().map(inside).product::<f64>()
}

/// Rows and columns of a block.
fn block(x: Extents, across: Option<usize>, tiles: &Tiles) -> (usize, usize) {
    let even = |extent: usize, most: usize| extent.div_ceil(extent.div_ceil(most).max(1));
    let all = |most: usize| even(x.n, most).next_multiple_of(tiles.cols()).max(tiles.cols());
    let depth = x.k.div_ceil(x.splits()).max(1);
    if let Some(positions) = across {
        let rows = even(x.m / positions, ACROSS) * positions;
        return (rows, all((ACROSS_TASK / (rows * depth)).clamp(tiles.cols(), COLS)));
    }
    let cols = all(COLS);
    let area = (x.multiply_adds() / 256).clamp(TASK.start, TASK.end) / depth;
    // A multiple of every height of a tile.
    let rows = even(x.m, (area / cols).clamp(36, MAX_ROWS)).next_multiple_of(12);
    (rows.clamp(12, MAX_ROWS), cols)
}

impl Phased for Indirect {
    fn tasks(&self, phase: usize) -> usize {
        if self.x.outputs() == 0 {
            return 0;
        }
        match phase {
            0 if self.is_small() => 0,
            0 => self.prepare_tasks(),
            1 => self.units().div_ceil(self.units_per_task),
            _ => self.finish.combine_tasks(),
        }
    }

    fn shares(&self) -> bool {
        self.pad.is_none() && self.x.splits() == 1 && !self.is_small()
    }

    fn workspace(&self) -> usize {
        let partials = if self.x.splits() > 1 { self.x.splits() * self.x.outputs() } else { 0 };
        round64(4 * self.weights.size()) + self.pad_bytes() + round64(4 * partials)
    }

    fn scratch(&self) -> usize {
        (self.table_bytes() + self.tile_bytes() + self.finish.scratch()).max(self.weights.scratch())
    }

    unsafe fn run(&self, phase: usize, task: usize, memory: Memory<'_>) {
        match phase {
            // SAFETY: as the caller vouches.
            0 => unsafe { self.prepare(task, memory) },
            1 => {
                if self.is_small() {
                    for task in 0..self.prepare_tasks() {
                        // SAFETY: as the caller vouches.
                        unsafe { self.prepare(task, memory) };
                    }
                }
                let mut lines = Lines::new();
                let first = task.saturating_mul(self.units_per_task);
                for unit in first..self.units().min(first.saturating_add(self.units_per_task)) {
                    // SAFETY: as the caller vouches.
                    unsafe { self.compute(&self.unit(unit), &mut lines, memory) };
                }
            }
            // SAFETY: as the caller vouches; the parts are complete.
            _ => unsafe { self.finish.combine(task, self.partials(memory.workspace), memory.operands, memory.scratch) },
        }
    }
}
