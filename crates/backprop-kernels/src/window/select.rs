use std::ops::Range;
use std::sync::Arc;

use super::choose::{Selecting, Windows};
use super::geometry::{Geometry, WindowSpec, room};
use crate::gemm::{Epilogue, round64};
use crate::{DType, Isa, Kernel};

/// Fewest channels of a block, where blocks are what gives threads something to do.
const BLOCK: usize = 64;
/// Blocks of positions and channels that are enough for any number of threads.
const UNITS: usize = 64;
/// Elements of the input a task visits.
const TASK: usize = 65_536;
/// Most elements of a tile that an epilogue takes.
const MAX_TILE: usize = 65_536;

/// How a selecting kernel is cut: a unit is one batch entry, a slab of positions and a block of channels.
struct Selection {
    geometry: Geometry,
    size: usize,
    loops: Selecting,
    /// Slabs of a batch entry: no window lies in two of them. All but the last have so many positions.
    slabs: usize,
    slab: usize,
    /// Whether windows share no elements, and whether every element lies in a window.
    disjoint: bool,
    covers: bool,
    /// Channels of a block.
    block: usize,
    units_per_task: usize,
}

/// One piece of the work: ranges of positions and windows of one batch entry, and of channels.
struct Unit {
    batch: usize,
    positions: Range<usize>,
    windows: Range<usize>,
    channels: Range<usize>,
}

impl Selection {
    fn new(spec: &WindowSpec, dtype: DType, isa: Isa) -> Option<Selection> {
        let geometry = Geometry::new(spec)?;
        let loops = Selecting::of(dtype, isa)?;
        u32::try_from(geometry.window()).ok()?;
        let (positions, disjoint) = (geometry.positions(), geometry.disjoint());
        let (slabs, slab) = match (disjoint, geometry.axes.first()) {
            (Some(step), Some(axis)) => (axis.output.max(1), step * (positions / axis.input.max(1))),
            _ => (1, positions),
        };
        let blocks = UNITS.div_ceil((geometry.batch * slabs).max(1)).min(geometry.channels.div_ceil(BLOCK)).max(1);
        let block = geometry.channels.div_ceil(blocks).next_multiple_of(BLOCK / 4);
        let units_per_task = (TASK / (slab * block).max(1)).max(1);
        let covers = geometry.covers();
        Some(Selection {
            geometry,
            size: dtype.size(),
            loops,
            slabs,
            slab,
            disjoint: disjoint.is_some(),
            covers,
            block,
            units_per_task,
        })
    }

    fn units(&self) -> usize {
        self.geometry.batch * self.slabs * self.geometry.channels.div_ceil(self.block.max(1))
    }

    fn tasks(&self) -> usize {
        self.units().div_ceil(self.units_per_task)
    }

    /// The units of a task.
    fn task(&self, task: usize) -> impl Iterator<Item = Unit> {
        let first = task * self.units_per_task;
        (first..self.units().min(first + self.units_per_task)).map(|unit| self.unit(unit))
    }

    fn unit(&self, unit: usize) -> Unit {
        let blocks = self.geometry.channels.div_ceil(self.block);
        let (channel, rest) = (unit % blocks * self.block, unit / blocks);
        let (slab, batch) = (rest % self.slabs, rest / self.slabs);
        let (positions, windows) = (self.geometry.positions(), self.geometry.windows());
        let end = if slab + 1 == self.slabs { positions } else { (slab + 1) * self.slab };
        let each = windows / self.slabs;
        Unit {
            batch,
            positions: slab * self.slab..end,
            windows: slab * each..(slab + 1) * each,
            channels: channel..self.geometry.channels.min(channel + self.block),
        }
    }

    /// Elements of the largest unit.
    fn largest(&self) -> usize {
        let last = self.geometry.positions() - (self.slabs - 1) * self.slab;
        (if self.slabs > 1 { last.max(self.slab) } else { last }) * self.block
    }

    /// Bytes from one position to the next.
    fn row(&self) -> usize {
        self.geometry.channels * self.size
    }

    /// Bytes of the positions under a window.
    fn scratch(&self) -> usize {
        round64(self.geometry.window() * size_of::<usize>())
    }

    /// Address of a unit's first channel in a tensor of so many positions to a batch entry.
    fn start(&self, unit: &Unit, tensor: *mut u8, positions: usize) -> *mut u8 {
        tensor.wrapping_add(unit.batch * positions * self.row() + unit.channels.start * self.size)
    }

    /// Hands a unit's windows to a function, those together that are alike, with the number of the first.
    ///
    /// # Safety
    /// The scratch has the promised size and is used for nothing else meanwhile.
    unsafe fn each(&self, unit: &Unit, scratch: *mut u8, mut f: impl FnMut(usize, Windows<'_>)) {
        // SAFETY: as the caller vouches.
        let list = unsafe { room(scratch, self.geometry.window()) };
        let (row, channels, ahead) = (self.row(), unit.channels.len(), self.geometry.ahead());
        self.geometry.each(unit.windows.clone(), list, |window, positions, count, step| {
            f(window, Windows { positions, count, step, row, ahead, channels })
        });
    }
}

/// Adds each source element to the position of its window's first largest element (first in row-major order; the first NaN
/// before all numbers), StableHLO's `select_and_scatter` with `ge`, `add` and 0: the derivative of a maximum over windows.
///
/// Operands: operand (the windows' input), source (one element per window), output (the operand's shape); row-major, the output
/// overlaps nothing. Additions to one element happen in row-major order of the windows.
///
/// An epilogue sees batch 0, rows numbered row-major over all dimensions but the channels, and channels as columns: the
/// dimensions of [`tile`](Self::tile). Its operands follow the source.
pub struct SelectAndScatter {
    selection: Selection,
    epilogue: Option<Arc<dyn Epilogue>>,
}

impl SelectAndScatter {
    /// Plans it for `F32` or `F64`; `None` for other types or a specification that does not fit.
    pub fn new(spec: &WindowSpec, dtype: DType, epilogue: Option<Arc<dyn Epilogue>>, isa: Isa) -> Option<SelectAndScatter> {
        Some(SelectAndScatter { selection: Selection::new(spec, dtype, isa)?, epilogue })
    }

    /// The output's dimensions as an epilogue sees them, if there can be one: elements are `F32` and tiles not too large.
    pub fn tile(spec: &WindowSpec, dtype: DType) -> Option<[usize; 3]> {
        let selection = Selection::new(spec, dtype, Isa::Portable)?;
        let Geometry { batch, channels, .. } = selection.geometry;
        let fits = dtype == DType::F32 && selection.largest() <= MAX_TILE;
        fits.then(|| [1, batch * selection.geometry.positions(), channels])
    }

    fn tile_bytes(&self) -> usize {
        if self.epilogue.is_some() { round64(self.selection.largest() * self.selection.size) } else { 0 }
    }

    /// # Safety
    /// As [`Kernel::run`]; `target` has room for the unit, its positions `row` bytes apart.
    unsafe fn scatter(&self, unit: &Unit, operands: &[*mut u8], (target, row): (*mut u8, usize), scratch: *mut u8) {
        let s = &self.selection;
        let input = s.start(unit, operands[0], s.geometry.positions()).cast_const();
        let source = s.start(unit, operands[1], s.geometry.windows()).cast_const();
        let channels = unit.channels.len();
        // SAFETY: positions and windows lie in the unit, which is this task's own.
        unsafe {
            if !(s.disjoint && s.covers) {
                let rows = 0..unit.positions.len();
                rows.for_each(|position| target.add(position * row).write_bytes(0, channels * s.size));
            }
            let write = if s.disjoint { s.loops.place } else { s.loops.add };
            let target = target.wrapping_sub(unit.positions.start * row);
            s.each(unit, scratch, |window, windows| write(windows, input, (target, row), source.add(window * s.row())));
        }
    }
}

impl Kernel for SelectAndScatter {
    fn tasks(&self, _stage: usize) -> usize {
        self.selection.tasks()
    }

    fn scratch(&self) -> usize {
        self.selection.scratch() + self.tile_bytes() + self.epilogue.as_ref().map_or(0, |e| e.scratch())
    }

    unsafe fn run(&self, _stage: usize, task: usize, operands: &[*mut u8], _workspace: *mut u8, scratch: *mut u8) {
        let s = &self.selection;
        let positions = s.geometry.positions();
        for unit in s.task(task) {
            let Some(epilogue) = &self.epilogue else {
                let target = s.start(&unit, operands[2], positions).wrapping_add(unit.positions.start * s.row());
                // SAFETY: as the caller vouches; the unit lies in the output.
                unsafe { self.scatter(&unit, operands, (target, s.row()), scratch) };
                continue;
            };
            let (rows, cols) = (unit.positions.len(), unit.channels.len());
            let tile = scratch.wrapping_add(s.scratch());
            let rest = tile.wrapping_add(self.tile_bytes());
            let row0 = unit.batch * positions + unit.positions.start;
            epilogue.fetch(0, row0, rows, unit.channels.start, cols, operands);
            // SAFETY: as the caller vouches; the tile has room for the largest unit.
            unsafe {
                self.scatter(&unit, operands, (tile, cols * s.size), scratch);
                epilogue.apply(0, row0, rows, unit.channels.start, cols, tile.cast(), cols, operands, rest);
            }
        }
    }
}

/// For every window the element of a second operand at the position of the window's first largest element (as
/// [`SelectAndScatter`] selects); 0 where a window holds only padding.
///
/// Operands: operand (the windows' input), the second operand of the same shape, output (one element per window); row-major, the
/// output overlaps nothing.
pub struct SelectAndGather {
    selection: Selection,
}

impl SelectAndGather {
    /// Plans it for `F32` or `F64`; `None` for other types or a specification that does not fit.
    pub fn new(spec: &WindowSpec, dtype: DType, isa: Isa) -> Option<SelectAndGather> {
        Some(SelectAndGather { selection: Selection::new(spec, dtype, isa)? })
    }
}

impl Kernel for SelectAndGather {
    fn tasks(&self, _stage: usize) -> usize {
        self.selection.tasks()
    }

    fn scratch(&self) -> usize {
        self.selection.scratch()
    }

    unsafe fn run(&self, _stage: usize, task: usize, operands: &[*mut u8], _workspace: *mut u8, scratch: *mut u8) {
        let s = &self.selection;
        let (windows, positions) = (s.geometry.windows(), s.geometry.positions());
        for unit in s.task(task) {
            let input = s.start(&unit, operands[0], positions).cast_const();
            let second = s.start(&unit, operands[1], positions).cast_const();
            let output = s.start(&unit, operands[2], windows);
            // SAFETY: positions and windows lie in the unit, which is this task's own.
            unsafe {
                s.each(&unit, scratch, |window, windows| (s.loops.gather)(windows, input, second, output.add(window * s.row())));
            }
        }
    }
}
