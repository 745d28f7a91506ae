//! The stages of a product: pack what several blocks share, compute blocks, combine the parts of a split sum.

mod lanes;

use std::sync::Arc;

use super::epilogue::Epilogue;
use super::finish::{Area, Finish, Output};
use super::micro::{Lane, Micro, Tile, TileFn};
use super::plan::{Block, Extents, Private, SMALL};
use super::source::{Rows, Source};
use super::{KC, round64};
use lanes::Lanes;

/// Elements a packing task moves: about 4 µs, so that no thread waits long for another.
const MOVED: usize = 1 << 14;

/// Terms that are packed of all panels before the next ones, where panels share cache lines.
const STRIP: usize = 8;

/// Elements of B up to which the second-level cache keeps all of it for the next rows.
const RIGHT: usize = 1 << 18;

/// Terms and outputs up to which it takes longer to ask for what an epilogue will need than to wait for it.
const SHORT: usize = 128;
const FEW_OUTPUTS: usize = 1 << 19;

/// How a block gets one of its operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Read in place.
    Direct,
    /// Packed by the block that needs it, into scratch.
    Private,
    /// Packed once, in the first stage, into the workspace.
    Shared,
}

/// One operand of the product.
pub(crate) struct Side {
    pub source: Box<dyn Source>,
    pub operand: usize,
    pub mode: Mode,
}

/// A planned batched product of two sources.
pub(crate) struct Driver {
    x: Extents,
    micro: &'static Micro,
    block: Block,
    a: Side,
    b: Side,
    finish: Finish,
    splits: usize,
    row_blocks: usize,
    col_blocks: usize,
    /// Output blocks, times the parts of the sum.
    units: usize,
    units_per_task: usize,
    /// Tasks of packing, computing and combining.
    tasks: [usize; 3],
    /// Registers are stored to the output itself, at this distance between rows.
    in_place: Option<isize>,
    /// Rows are finished panel by panel, while they are in the first-level cache, rather than block by block.
    by_panels: bool,
    /// All columns of a row come one after the other, so that threads share the rows of A and of the output: what a thread's core
    /// made of a batch's rows it reads in the next layer. Else all rows of a column.
    rows_first: bool,
}

/// Memory of a running task.
#[derive(Clone, Copy)]
pub(crate) struct Memory<'a> {
    pub operands: &'a [*mut u8],
    pub workspace: *mut u8,
    pub scratch: *mut u8,
}

/// An operand of a block for one chunk: panels in packed form, or strides.
#[derive(Clone, Copy)]
struct View {
    at: *const f32,
    /// (row, term) strides of an operand read in place.
    strides: Option<(isize, isize)>,
}

/// A block of the output, and which part of its sums.
#[derive(Clone, Copy)]
struct Unit {
    batch: usize,
    split: usize,
    col_block: usize,
    row_block: usize,
}

/// The sums of a block while they are formed.
#[derive(Clone, Copy)]
struct Sums {
    /// Terms of the chunk.
    k: usize,
    /// Adds to what earlier chunks gave.
    add: bool,
    /// No chunk comes after this one.
    last: bool,
    to: *mut f32,
    /// Distance between rows.
    ld: isize,
}

impl Driver {
    pub fn new(x: Extents, micro: &'static Micro, a: Side, b: Side, out: Output, epilogue: Option<Arc<dyn Epilogue>>) -> Driver {
        let private = match (a.mode, b.mode) {
            (Mode::Private, Mode::Private) => Private::Both,
            (Mode::Shared, Mode::Private) => Private::B,
            (Mode::Direct | Mode::Shared, Mode::Direct | Mode::Shared) => Private::None,
            _ => Private::A,
        };
        Driver::cut(x, micro, Block::choose(x, micro, private), [a, b], out, epilogue)
    }

    /// Plans a product in blocks of so many rows and columns.
    pub fn cut(
        x: Extents,
        micro: &'static Micro,
        mut block: Block,
        [mut a, mut b]: [Side; 2],
        out: Output,
        epilogue: Option<Arc<dyn Epilogue>>,
    ) -> Driver {
        block.m = block.m.max(1);
        let (row_blocks, col_blocks) = (x.m.div_ceil(block.m), x.n.div_ceil(block.n));
        let small = x.multiply_adds() <= SMALL && x.runs == 1;
        for (side, users) in [(&mut a, col_blocks), (&mut b, row_blocks)] {
            let users = if side.source.is_shared_by_batches() { users * x.batch } else { users };
            // Of several runs only the right operand is the same.
            let users = if x.runs == 1 || side.operand == 1 { users * x.runs } else { 1 };
            if side.mode == Mode::Shared && (small || users < 2) {
                side.mode = Mode::Private;
            }
        }
        let splits = x.splits();
        let by_panels = epilogue.is_some() && splits == 1;
        let finish = Finish { x, out, epilogue, simd: micro.simd() };
        let units = x.batch * splits * col_blocks * row_blocks;
        let unit = block.m * block.n * (x.k.div_ceil(splits) + 16);
        let units_per_task = if small { units.max(1) } else { (SMALL / 2 / unit).max(1) };
        let direct = [&a, &b].iter().all(|side| side.mode != Mode::Private);
        let activations = a.source.strides().is_some_and(|(_, term)| term == 1);
        let rows_first = direct && activations && splits == 1 && x.n * x.k <= RIGHT;
        let (in_place, tasks) = (finish.in_place(), [0, units.div_ceil(units_per_task), finish.combine_tasks()]);
        let mut driver = Driver {
            x,
            micro,
            block,
            a,
            b,
            finish,
            splits,
            row_blocks,
            col_blocks,
            units,
            units_per_task,
            tasks,
            in_place,
            by_panels,
            rows_first,
        };
        driver.tasks[0] = driver.pack_tasks(&driver.a, row_blocks, block.m) + driver.pack_tasks(&driver.b, col_blocks, block.n);
        if x.outputs() == 0 {
            driver.tasks = [0; 3];
        }
        driver
    }

    /// Finishes whole blocks: for an epilogue that wants many rows at once.
    pub fn by_blocks(self) -> Driver {
        Driver { by_panels: false, ..self }
    }

    /// Tasks of packing (0), computing (1) and combining (2).
    pub fn tasks(&self, phase: usize) -> usize {
        self.tasks[phase]
    }

    /// Whether packing depends on operand 1 alone, and nothing else is written to the workspace.
    pub fn shares(&self) -> bool {
        self.splits == 1 && [&self.a, &self.b].iter().all(|side| side.mode != Mode::Shared || side.operand == 1)
    }

    /// Elements of A's shared panels.
    fn shared_a(&self) -> usize {
        if self.a.mode == Mode::Shared { self.batches(&self.a) * self.x.m * self.x.k } else { 0 }
    }

    fn shared_b(&self) -> usize {
        if self.b.mode == Mode::Shared { self.batches(&self.b) * self.padded_cols() * self.x.k } else { 0 }
    }

    pub fn workspace(&self) -> usize {
        let partials = if self.splits > 1 { self.splits * self.x.outputs() } else { 0 };
        round64(4 * self.shared_a()) + round64(4 * self.shared_b()) + round64(4 * partials)
    }

    fn depth(&self) -> usize {
        self.x.k.min(KC)
    }

    fn scratch_a(&self) -> usize {
        if self.a.mode == Mode::Private { round64(4 * self.block.m * self.depth()) } else { 0 }
    }

    fn scratch_b(&self) -> usize {
        if self.b.mode == Mode::Private { round64(4 * self.block.n * self.depth()) } else { 0 }
    }

    fn scratch_tile(&self) -> usize {
        if self.splits > 1 || self.in_place.is_some() {
            return 0;
        }
        let rows = if self.one_panel_at_a_time() { self.micro.rows.min(self.block.m) } else { self.block.m };
        round64(4 * rows * self.block.n)
    }

    /// Whether a panel of rows is finished before the next begins, so that all use the same place.
    fn one_panel_at_a_time(&self) -> bool {
        self.by_panels && self.x.chunks() == 1
    }

    /// Whether tiles ask for what the epilogue will need.
    fn fetches(&self) -> bool {
        self.by_panels && (self.x.k > SHORT || self.x.outputs() > FEW_OUTPUTS)
    }

    pub fn scratch(&self) -> usize {
        self.scratch_a() + self.scratch_b() + self.scratch_tile() + self.finish.scratch()
    }

    /// Distinct matrices of an operand.
    fn batches(&self, side: &Side) -> usize {
        if side.source.is_shared_by_batches() { 1 } else { self.x.batch }
    }

    fn padded_cols(&self) -> usize {
        self.x.n.div_ceil(self.micro.lanes) * self.micro.lanes
    }

    fn chunk(&self, chunk: usize) -> (usize, usize) {
        let k0 = chunk * KC;
        (k0, (self.x.k - k0).min(KC))
    }

    fn pack_group(&self, block: usize) -> usize {
        (MOVED / (block * self.depth()).max(1)).max(1)
    }

    fn pack_tasks(&self, side: &Side, blocks: usize, block: usize) -> usize {
        if side.mode != Mode::Shared {
            return 0;
        }
        (self.batches(side) * blocks * self.x.chunks()).div_ceil(self.pack_group(block))
    }

    /// # Safety
    /// As [`Kernel::run`](crate::Kernel::run).
    pub unsafe fn run(&self, phase: usize, task: usize, memory: Memory<'_>) {
        // SAFETY: as the caller vouches.
        unsafe {
            match phase {
                0 => self.pack(task, memory),
                1 => self.compute(task, memory),
                _ => self.finish.combine(task, self.partials(memory.workspace), memory.operands, self.epilogue_scratch(memory)),
            }
        }
    }

    /// Panels of a block of rows of A: as even as possible. (first row, rows) of each.
    fn row_panels(&self, rows: usize) -> impl Iterator<Item = (usize, usize)> {
        let panels = rows.div_ceil(self.micro.rows);
        let (base, longer) = (rows / panels, rows % panels);
        (0..panels).map(move |i| (i * base + i.min(longer), base + usize::from(i < longer)))
    }

    /// Panels of a block of columns of B. (first column, columns, width) of each.
    fn col_panels(&self, cols: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let (full, lanes) = (self.micro.cols(), self.micro.lanes);
        (0..cols.div_ceil(full)).map(move |i| {
            let count = (cols - i * full).min(full);
            (i * full, count, count.next_multiple_of(lanes))
        })
    }

    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn pack(&self, task: usize, memory: Memory<'_>) {
        let a_tasks = self.pack_tasks(&self.a, self.row_blocks, self.block.m);
        let is_a = task < a_tasks;
        let (side, blocks, block, task) = if is_a {
            (&self.a, self.row_blocks, self.block.m, task)
        } else {
            (&self.b, self.col_blocks, self.block.n, task - a_tasks)
        };
        let (group, chunks) = (self.pack_group(block), self.x.chunks());
        let all = self.batches(side) * blocks * chunks;
        for item in task * group..all.min((task + 1) * group) {
            let (batch, at, chunk) = (item / chunks / blocks, item / chunks % blocks, item % chunks);
            let to = self.shared_panels(is_a, memory.workspace, batch, at, chunk);
            // SAFETY: the region belongs to this block and chunk alone.
            unsafe { self.pack_block(is_a, memory, batch, at, chunk, to) };
        }
    }

    /// Rows of block `at` of A (or columns of B), as (first, count, padded count).
    fn extent(&self, is_a: bool, at: usize) -> (usize, usize, usize) {
        if is_a {
            let first = at * self.block.m;
            let count = (self.x.m - first).min(self.block.m);
            (first, count, count)
        } else {
            let first = at * self.block.n;
            let count = (self.x.n - first).min(self.block.n);
            (first, count, count.div_ceil(self.micro.lanes) * self.micro.lanes)
        }
    }

    /// Where the panels of a shared block and chunk lie in the workspace.
    fn shared_panels(&self, is_a: bool, workspace: *mut u8, batch: usize, at: usize, chunk: usize) -> *mut f32 {
        let (first, _, padded) = self.extent(is_a, at);
        let (k0, _) = self.chunk(chunk);
        let (start, rows, side) =
            if is_a { (0, self.x.m, &self.a) } else { (round64(4 * self.shared_a()), self.padded_cols(), &self.b) };
        let batch = if side.source.is_shared_by_batches() { 0 } else { batch };
        workspace.wrapping_add(start).cast::<f32>().wrapping_add((batch * rows + first) * self.x.k + padded * k0)
    }

    /// Packs one block and chunk of an operand.
    ///
    /// # Safety
    /// As [`run`](Self::run); `to` has room for the padded block.
    unsafe fn pack_block(&self, is_a: bool, memory: Memory<'_>, batch: usize, at: usize, chunk: usize, to: *mut f32) {
        let side = if is_a { &self.a } else { &self.b };
        let base = memory.operands[side.operand].cast::<f32>().cast_const();
        let (first, count, _) = self.extent(is_a, at);
        let (k0, k) = self.chunk(chunk);
        // Where rows are adjacent, panels share cache lines: a few terms of all panels come before the next terms.
        let terms = if side.source.strides().is_some_and(|(row, _)| row == 1) { STRIP } else { k.max(1) };
        for done in (0..k).step_by(terms) {
            let terms = (k - done).min(terms);
            let panel = |from: usize, count: usize, width: usize| {
                let rows = Rows { first: first + from, count, width };
                // SAFETY: panels tile the block, so each lies within it.
                unsafe { side.source.pack(base, batch, rows, k0 + done, terms, to.wrapping_add(from * k + done * width)) };
            };
            if is_a {
                self.row_panels(count).for_each(|(from, count)| panel(from, count, count));
            } else {
                self.col_panels(count).for_each(|(from, count, width)| panel(from, count, width));
            }
        }
    }

    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn compute(&self, task: usize, memory: Memory<'_>) {
        let mut packed = [None; 2];
        for number in task * self.units_per_task..self.units.min((task + 1) * self.units_per_task) {
            let Unit { batch, split, col_block, row_block } = self.unit(number);
            let (row0, rows, _) = self.extent(true, row_block);
            let (col0, cols, _) = self.extent(false, col_block);
            let area = Area { batch, row0, rows, col0, cols };
            let (to, ld) = self.destination(area, split, memory);
            let (first, end) = self.chunks_of(split);
            for chunk in first..end {
                let mut ahead = self.ahead(number, (chunk + 1 < end).then_some(chunk + 1), memory);
                // SAFETY: as the caller vouches; `to` is this unit's own part of the output, the workspace or the scratch.
                unsafe {
                    let a = self.view(true, memory, batch, row_block, chunk, &mut packed[0]);
                    let b = self.view(false, memory, batch, col_block, chunk, &mut packed[1]);
                    let sums = Sums { k: self.chunk(chunk).1, add: chunk > first, last: chunk + 1 == end, to, ld };
                    self.multiply(area, a, b, sums, &mut ahead, memory);
                }
            }
            if self.splits == 1 && self.in_place.is_none() && !self.by_panels {
                // SAFETY: the tile holds the finished area.
                unsafe { self.finish.area(area, to, ld as usize, memory.operands, self.epilogue_scratch(memory)) };
            }
        }
    }

    fn unit(&self, number: usize) -> Unit {
        let (inner, outer) =
            if self.rows_first { (self.col_blocks, self.row_blocks) } else { (self.row_blocks, self.col_blocks) };
        let (at, rest) = (number % inner, number / inner);
        let (row_block, col_block, rest) =
            if self.rows_first { (rest % outer, at, rest / outer) } else { (at, rest % outer, rest / outer) };
        Unit { batch: rest / self.splits, split: rest % self.splits, col_block, row_block }
    }

    /// The first chunk of a part of the sum, and the end.
    fn chunks_of(&self, split: usize) -> (usize, usize) {
        let chunks = self.x.chunks();
        (split * chunks / self.splits, (split + 1) * chunks / self.splits)
    }

    /// Where a chunk of a block begins in an operand that is read in place.
    fn direct(
        &self,
        is_a: bool,
        (row, term): (isize, isize),
        batch: usize,
        at: usize,
        chunk: usize,
        memory: Memory<'_>,
    ) -> *const f32 {
        let side = if is_a { &self.a } else { &self.b };
        let (first, k0) = (self.extent(is_a, at).0 as isize, self.chunk(chunk).0 as isize);
        let base = memory.operands[side.operand].cast::<f32>().cast_const();
        base.wrapping_offset(side.source.batch_offset(batch) + first * row + k0 * term)
    }

    /// Where a block's sums are formed, and the distance between its rows.
    fn destination(&self, area: Area, split: usize, memory: Memory<'_>) -> (*mut f32, isize) {
        if self.splits > 1 {
            let row = (split * self.x.batch + area.batch) * self.x.m + area.row0;
            return (self.partials(memory.workspace).wrapping_add(row * self.x.n + area.col0), self.x.n as isize);
        }
        if let Some(stride) = self.in_place {
            let offset = area.row0 as isize * stride + area.col0 as isize;
            return (self.finish.output(area.batch, memory.operands).wrapping_offset(offset), stride);
        }
        (memory.scratch.wrapping_add(self.scratch_a() + self.scratch_b()).cast(), area.cols as isize)
    }

    fn epilogue_scratch(&self, memory: Memory<'_>) -> *mut u8 {
        memory.scratch.wrapping_add(self.scratch_a() + self.scratch_b() + self.scratch_tile())
    }

    fn partials(&self, workspace: *mut u8) -> *mut f32 {
        workspace.wrapping_add(round64(4 * self.shared_a()) + round64(4 * self.shared_b())).cast()
    }

    /// The operand of a block for one chunk, packing it unless `packed` says that scratch still holds it.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn view(
        &self,
        is_a: bool,
        memory: Memory<'_>,
        batch: usize,
        at: usize,
        chunk: usize,
        packed: &mut Option<(usize, usize, usize)>,
    ) -> View {
        let side = if is_a { &self.a } else { &self.b };
        match (side.mode, side.source.strides()) {
            (Mode::Direct, Some(strides)) => {
                View { at: self.direct(is_a, strides, batch, at, chunk, memory), strides: Some(strides) }
            }
            (Mode::Shared, _) => View { at: self.shared_panels(is_a, memory.workspace, batch, at, chunk), strides: None },
            _ => {
                let to = memory.scratch.wrapping_add(if is_a { 0 } else { self.scratch_a() }).cast();
                let key = (if side.source.is_shared_by_batches() { 0 } else { batch }, at, chunk);
                if *packed != Some(key) {
                    // SAFETY: the scratch has room for one block and chunk of each operand.
                    unsafe { self.pack_block(is_a, memory, batch, at, chunk, to) };
                    *packed = Some(key);
                }
                View { at: to, strides: None }
            }
        }
    }

    /// One chunk of one block: every register tile of it.
    ///
    /// # Safety
    /// As [`run`](Self::run); the views hold the area's rows and columns of the chunk, the sums have a place for all of it.
    unsafe fn multiply(&self, area: Area, a: View, b: View, sums: Sums, ahead: &mut Lanes, memory: Memory<'_>) {
        let Sums { k, add, last, to, ld } = sums;
        for (row0, count) in self.row_panels(area.rows) {
            let (a_at, a_row, a_step) = match a.strides {
                Some((row, term)) => (a.at.wrapping_offset(row0 as isize * row), row, term),
                None => (a.at.wrapping_add(row0 * k), 1, count as isize),
            };
            let c = if self.one_panel_at_a_time() { to } else { to.wrapping_offset(row0 as isize * ld) };
            let wide = if let (Some(tile), Some((_, b_step))) = (self.micro.wide(count), b.strides) {
                let sums =
                    Tile { k, a: a_at, a_row, a_step, b: b.at, b_step, cols: tile.0, c, c_row: ld, add, ahead: Lane::NONE };
                // SAFETY: as the caller vouches.
                unsafe { wide_tiles(tile, sums, area.cols) }
            } else {
                0
            };
            for (col0, cols, width) in self.col_panels(area.cols - wide) {
                let col0 = col0 + wide;
                let (b_at, b_step) = match b.strides {
                    Some((_, term)) => (b.at.wrapping_add(col0), term),
                    None => (b.at.wrapping_add(col0 * k), width as isize),
                };
                let tile = self.micro.tile(a_row == 1, width / self.micro.lanes, count);
                let c = c.wrapping_add(col0);
                if last && self.fetches() {
                    let tile = Area { row0: area.row0 + row0, rows: count, col0: area.col0 + col0, cols, ..area };
                    self.finish.fetch(tile, memory.operands);
                }
                let sums = Tile { k, a: a_at, a_row, a_step, b: b_at, b_step, cols, c, c_row: ld, add, ahead: ahead.take() };
                // SAFETY: the tile lies within the block.
                unsafe { tile(&sums) };
            }
            if last && self.by_panels {
                let area = Area { row0: area.row0 + row0, rows: count, ..area };
                // SAFETY: `c` holds the finished rows.
                unsafe { self.finish.area(area, c, ld as usize, memory.operands, self.epilogue_scratch(memory)) };
            }
        }
    }
}

/// Covers whole wide tiles of columns that are read in place; returns the number of columns done.
///
/// # Safety
/// `first` describes the first tile; `cols` columns are valid.
unsafe fn wide_tiles((width, tile): (usize, TileFn), first: Tile, cols: usize) -> usize {
    for at in (0..cols / width).map(|i| i * width) {
        // SAFETY: as the caller vouches.
        unsafe { tile(&Tile { b: first.b.wrapping_add(at), c: first.c.wrapping_add(at), ..first }) };
    }
    cols / width * width
}
