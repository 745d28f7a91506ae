//! A program made ready for one instruction set, run box by box.

use super::compiled::Compiled;
use super::interpreter::Interpreter;
use super::program::{Definition, MAX_RANK, OpCode, Reg, TileError, TileProgram};
use crate::Isa;

/// The largest tile in elements.
pub(crate) const TILE: usize = 1024;
/// What tiles of many buffers are cut to.
pub(crate) const SMALLEST_TILE: usize = TILE / 2;

/// Where and over how many elements of each iteration dimension a program runs.
#[derive(Clone, Copy)]
pub(crate) struct Region<'a> {
    /// Index of the first element, one per dimension.
    pub(crate) origin: &'a [usize],
    /// Extent per dimension.
    pub(crate) shape: &'a [usize],
    /// Extent of the largest box of this task; equals `shape` but in the ragged last box.
    pub(crate) full: &'a [usize],
    /// Compute the invariant values: the first box of a task.
    pub(crate) first: bool,
}

/// A program ready to run. Its scratch begins with one address per value.
pub(crate) struct Machine {
    engine: Engine,
}

enum Engine {
    /// One function of machine instructions.
    Compiled(Compiled),
    /// One loop per operation.
    Interpreted(Interpreter),
}

impl Machine {
    /// Makes a program ready. `moving(d)` says whether boxes of one task differ in their position along dimension `d`; `results`
    /// are values handed out besides the stored ones.
    pub(crate) fn new(
        program: &TileProgram,
        isa: Isa,
        moving: impl Fn(usize) -> bool,
        results: &[Reg],
    ) -> Result<Machine, TileError> {
        match Compiled::new(program, isa, results) {
            Some(compiled) => Ok(Machine { engine: Engine::Compiled(compiled) }),
            None => Machine::interpreted(program, isa, moving, results),
        }
    }

    /// The same with a loop for each operation.
    pub(super) fn interpreted(
        program: &TileProgram,
        isa: Isa,
        moving: impl Fn(usize) -> bool,
        results: &[Reg],
    ) -> Result<Machine, TileError> {
        let kept = program.stores.iter().map(|store| store.reg).chain(results.iter().copied()).map(|r| usize::from(r.0));
        let kept: Vec<usize> = kept.collect();
        if kept.is_empty() {
            return Err(TileError::NoResult);
        }
        Ok(Machine { engine: Engine::Interpreted(Interpreter::new(program, isa, moving, &kept)?) })
    }

    /// Whether operations are one function, which does not depend on what moves.
    pub(super) fn is_compiled(&self) -> bool {
        matches!(self.engine, Engine::Compiled(_))
    }

    /// Bytes of scratch a running task needs.
    pub(crate) fn scratch(&self) -> usize {
        match &self.engine {
            Engine::Compiled(compiled) => compiled.scratch(),
            Engine::Interpreted(interpreter) => interpreter.scratch(),
        }
    }

    /// The most elements of a box.
    pub(crate) fn tile(&self) -> usize {
        match &self.engine {
            Engine::Compiled(compiled) => compiled.tile(),
            Engine::Interpreted(interpreter) => interpreter.tile(),
        }
    }

    /// Address of a value after [`run`](Self::run), or before it for a given value.
    ///
    /// # Safety
    /// `scratch` is the one of the runs; it was prepared.
    pub(crate) unsafe fn value(&self, reg: Reg, scratch: *mut u8) -> *mut *const u8 {
        // SAFETY: the table has one entry per value.
        unsafe { scratch.cast::<*const u8>().add(usize::from(reg.0)) }
    }

    /// Where the bytes from row to row of the given value are set before each run, if its rows need not follow each other.
    ///
    /// # Safety
    /// As [`value`](Self::value).
    pub(crate) unsafe fn row_stride_of_given(&self, scratch: *mut u8) -> Option<*mut isize> {
        match &self.engine {
            // SAFETY: the caller's promise.
            Engine::Compiled(compiled) => unsafe { compiled.row_stride_of_given(scratch) },
            Engine::Interpreted(_) => None,
        }
    }

    /// Ends a task: what it stored is seen by whoever learns that it is done.
    pub(super) fn publish(&self) {
        if let Engine::Compiled(compiled) = &self.engine {
            compiled.publish();
        }
    }

    /// Runs the program over one box.
    ///
    /// # Safety
    /// As [`Kernel::run`](crate::Kernel::run); the box lies in the iteration space and has at most [`tile`](Self::tile)
    /// elements; `first` holds for the first box a task runs in this scratch; given values are set.
    pub(crate) unsafe fn run(&self, region: Region<'_>, operands: &[*mut u8], scratch: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe {
            match &self.engine {
                Engine::Compiled(compiled) => compiled.run(region, operands, scratch),
                Engine::Interpreted(interpreter) => interpreter.run(region, operands, scratch),
            }
        }
    }
}

/// How an iteration space is cut into boxes: whole trailing dimensions, chunks of the dimension before them.
pub(crate) struct Cut {
    dims: Vec<usize>,
    split: usize,
    /// Chunk length along `split`.
    rows: usize,
    chunks: usize,
}

impl Cut {
    /// Cuts into boxes of at most `tile` elements, as even as possible.
    pub(crate) fn new(dims: &[usize], tile: usize) -> Cut {
        let dims = if dims.is_empty() { vec![1] } else { dims.to_vec() };
        let (mut split, mut block) = (dims.len() - 1, 1usize);
        while split > 0 && block * dims[split] <= tile {
            block *= dims[split];
            split -= 1;
        }
        let most = (tile / block.max(1)).max(1);
        let chunks = dims[split].div_ceil(most);
        // Even chunks waste least, but a long innermost row is cut at full tiles, which are multiples of every vector.
        let rows = if split == dims.len() - 1 { most } else { dims[split].div_ceil(chunks.max(1)).max(1) };
        Cut { dims, split, rows, chunks }
    }

    /// Number of boxes.
    pub(crate) fn boxes(&self) -> usize {
        if self.dims.contains(&0) {
            return 0;
        }
        self.dims[..self.split].iter().product::<usize>() * self.chunks
    }

    /// Whether boxes differ in their position along dimension `d`.
    pub(crate) fn moving(&self, d: usize) -> bool {
        d <= self.split
    }

    /// Extents of a whole box.
    pub(crate) fn full(&self) -> ([usize; MAX_RANK], usize) {
        let mut shape = [1; MAX_RANK];
        shape[self.split] = self.rows.min(self.dims[self.split]);
        shape[self.split + 1..self.dims.len()].copy_from_slice(&self.dims[self.split + 1..]);
        (shape, self.dims.len())
    }

    /// Calls `each(origin, shape, full)` for boxes that follow each other, with the extents of a whole box.
    #[inline(always)]
    pub(crate) fn each(&self, boxes: std::ops::Range<usize>, mut each: impl FnMut(&[usize], &[usize], &[usize])) {
        let (full, rank) = self.full();
        let (mut origin, mut shape) = ([0; MAX_RANK], full);
        origin[self.split] = boxes.start % self.chunks * self.rows;
        let mut rest = boxes.start / self.chunks;
        for d in (0..self.split).rev() {
            origin[d] = rest % self.dims[d];
            rest /= self.dims[d];
        }
        for _ in boxes {
            shape[self.split] = self.rows.min(self.dims[self.split] - origin[self.split]);
            each(&origin[..rank], &shape[..rank], &full[..rank]);
            origin[self.split] += self.rows;
            let mut d = self.split;
            while origin[d] >= self.dims[d] && d > 0 {
                origin[d] = 0;
                d -= 1;
                origin[d] += 1;
            }
        }
    }
}

/// Estimated nanoseconds per element of a compiled program, from and to memory, on one core of a current server: a pure function of the
/// program.
pub(crate) fn cost(program: &TileProgram) -> f64 {
    let bytes = |size: usize| 0.02 * size as f64;
    let values = program.values.iter().map(|value| match &value.definition {
        Definition::Load { strides, .. } => {
            let inner = strides.last().copied().unwrap_or(0);
            if inner.unsigned_abs() > 1 { 0.5 } else { bytes(value.dtype.size()) }
        }
        Definition::Op { op, .. } => operation_cost(*op) * if value.dtype.size() == 8 { 2.0 } else { 1.0 },
        _ => 0.0,
    });
    let stores = program.stores.iter().map(|s| bytes(program.values[usize::from(s.reg.0)].dtype.size()));
    values.chain(stores).sum()
}

fn operation_cost(op: OpCode) -> f64 {
    use OpCode::*;
    match op {
        Exp | Expm1 | Log | Log1p | Tanh | Logistic | Erf | Sin | Cos => 0.15,
        Pow | Philox => 1.0,
        Rem => 5.0,
        Div | Sqrt | Rsqrt => 0.05,
        _ => 0.01,
    }
}
