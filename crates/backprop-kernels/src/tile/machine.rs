//! A program compiled for one instruction set, run box by box.

use super::access::{self, Walk};
use super::join::join;
use super::ops::{self, OpFn};
use super::program::{Definition, MAX_RANK, OpCode, Reg, TileError, TileProgram};
use super::registers;
use crate::ahead::{self, Ahead};
use crate::{DType, Isa};

/// The most operands of an operation.
const MAX_ARITY: usize = ops::MOST;
/// The most stores of a program.
const MAX_STORES: usize = 64;

enum Action {
    Load {
        operand: usize,
        strides: Vec<isize>,
        offset: isize,
        size: usize,
        in_place: bool,
    },
    Splat {
        bits: u64,
        size: usize,
    },
    Affine {
        strides: Vec<isize>,
        dtype: DType,
    },
    Apply {
        function: OpFn,
        sources: [u16; MAX_ARITY],
    },
    /// Set by the caller before each box.
    Given,
}

struct Step {
    value: u16,
    action: Action,
    /// The store that its value may be computed right into.
    store: Option<usize>,
}

struct StoreStep {
    value: u16,
    operand: usize,
    strides: Vec<isize>,
    offset: isize,
    size: usize,
    /// The value may be computed right into the destination where that is contiguous and none of `readers`.
    direct: bool,
    /// Operands that are still read when the value is computed.
    readers: Vec<usize>,
}

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

/// A compiled tile program. Its scratch holds one address per value and the tile buffers.
pub(crate) struct Machine {
    /// What is the same in every box of a task: computed once, over a full box.
    fixed: Vec<Step>,
    steps: Vec<Step>,
    stores: Vec<StoreStep>,
    /// Byte offset in the scratch of each value's buffer.
    buffers: Vec<usize>,
    scratch: usize,
    tile: usize,
    /// Cache lines of the next box to ask for after each operation.
    share: usize,
}

/// The largest tile in elements.
pub(crate) const TILE: usize = 1024;
/// What tiles of many buffers are cut to.
pub(crate) const SMALLEST_TILE: usize = TILE / 2;
/// Bytes of tile buffers that leave room for streamed operands in a 32 KiB first-level cache.
const CACHE: usize = 24 << 10;

impl Machine {
    /// Compiles a program. `moving(d)` says whether boxes of one task differ in their position along dimension `d`; `results`
    /// are values handed out besides the stored ones.
    pub(crate) fn new(
        program: &TileProgram,
        isa: Isa,
        moving: impl Fn(usize) -> bool,
        results: &[Reg],
    ) -> Result<Machine, TileError> {
        let kept: Vec<usize> =
            program.stores.iter().map(|store| store.reg).chain(results.iter().copied()).map(|r| usize::from(r.0)).collect();
        if kept.is_empty() {
            return Err(TileError::NoResult);
        }
        if program.stores.len() > MAX_STORES {
            return Err(TileError::TooLarge);
        }
        let invariant = invariants(program, moving);
        let program = &join(program, &invariant, &kept);
        let uniform = invariants(program, |_| true);
        let allocation = registers::allocate(program, &invariant, &kept);
        let tile = if allocation.used(TILE) <= CACHE { TILE } else { SMALLEST_TILE };
        let table = (program.values.len() * size_of::<*const u8>()).next_multiple_of(64);
        let starts: Vec<usize> = allocation
            .sizes
            .iter()
            .scan(table, |next, size| {
                let start = *next;
                *next += (size * tile).next_multiple_of(64);
                Some(start)
            })
            .collect();
        let stores = stores(program, &invariant, &allocation.order, &kept);
        let step = |&v: &usize| step(program, v, isa, &invariant, &uniform, &stores);
        let order = || allocation.order.iter();
        let fixed = order().filter(|&&v| invariant[v]).map(step).collect::<Option<Vec<Step>>>();
        let steps = order().filter(|&&v| !invariant[v]).map(step).collect::<Option<Vec<Step>>>();
        let (Some(fixed), Some(steps)) = (fixed, steps) else { return Err(TileError::NoResult) };
        Ok(Machine {
            share: lines_per_operation(&steps, &stores, tile),
            fixed,
            steps,
            stores,
            buffers: allocation.buffer.iter().map(|b| b.map_or(table, |b| starts[b])).collect(),
            scratch: table + allocation.bytes(tile),
            tile,
        })
    }

    /// Bytes of scratch a running task needs.
    pub(crate) fn scratch(&self) -> usize {
        self.scratch
    }

    /// The most elements of a box.
    pub(crate) fn tile(&self) -> usize {
        self.tile
    }

    /// Address of a value after [`run`](Self::run), or before it for a given value.
    ///
    /// # Safety
    /// `scratch` is the one of the runs; it was prepared.
    pub(crate) unsafe fn value(&self, reg: Reg, scratch: *mut u8) -> *mut *const u8 {
        // SAFETY: the table has one entry per value.
        unsafe { scratch.cast::<*const u8>().add(usize::from(reg.0)) }
    }

    /// Runs the program over one box.
    ///
    /// # Safety
    /// As [`Kernel::run`](crate::Kernel::run); the box lies in the iteration space and has at most [`tile`](Self::tile)
    /// elements; `first` holds for the first box a task runs in this scratch; given values are set.
    pub(crate) unsafe fn run(&self, region: Region<'_>, operands: &[*mut u8], scratch: *mut u8) {
        let n: usize = region.shape.iter().product();
        // SAFETY: the caller's promise; every address comes from the operands' box or the scratch's layout.
        unsafe {
            let table = scratch.cast::<*const u8>();
            let mut ahead = Ahead::new(self.share);
            let direct = self.aim_stores(&region, n, operands, scratch, &mut ahead);
            if region.first {
                let all: usize = region.full.iter().product();
                for step in &self.fixed {
                    self.perform(step, region.full, all, region.origin, operands, scratch, 0, &mut ahead);
                }
            }
            for step in &self.steps {
                self.perform(step, region.shape, n, region.origin, operands, scratch, direct, &mut ahead);
            }
            for (i, store) in self.stores.iter().enumerate() {
                if direct >> i & 1 == 0 {
                    let target = store.address(&region, operands);
                    access::scatter(store.size, target, *table.add(usize::from(store.value)), region.shape, &store.strides);
                }
            }
        }
    }

    /// Points every value that can be computed right into its destination there; the bits of the result tell which stores are so
    /// done.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn aim_stores(&self, region: &Region<'_>, n: usize, operands: &[*mut u8], scratch: *mut u8, ahead: &mut Ahead) -> u64 {
        let mut direct = 0;
        for (i, store) in self.stores.iter().enumerate() {
            let base = operands[store.operand];
            let read = || store.readers.iter().any(|&operand| operands[operand] == base);
            if store.direct && !read() && access::is_contiguous(region.shape, &store.strides) {
                // SAFETY: the table has one entry per value; the address lies in the destination.
                unsafe {
                    let target = store.address(region, operands);
                    *scratch.cast::<*const u8>().add(usize::from(store.value)) = target;
                    ahead.follow(target, n * store.size);
                }
                direct |= 1 << i;
            }
        }
        direct
    }

    /// # Safety
    /// As [`run`](Self::run).
    #[allow(clippy::too_many_arguments, reason = "the loop above would build a struct of these per step")]
    unsafe fn perform(
        &self,
        step: &Step,
        shape: &[usize],
        n: usize,
        origin: &[usize],
        operands: &[*mut u8],
        scratch: *mut u8,
        direct: u64,
        ahead: &mut Ahead,
    ) {
        let value = usize::from(step.value);
        // SAFETY: addresses lie in the operands' box or in the value's buffer of `tile` elements.
        unsafe {
            let entry = scratch.cast::<*const u8>().add(value);
            let buffer = scratch.add(self.buffers[value]);
            match &step.action {
                Action::Load { operand, strides, offset, size, in_place } => {
                    let start = (offset + access::offset_at(origin, strides)) * *size as isize;
                    let source = operands[*operand].offset(start);
                    if *in_place && access::is_contiguous(shape, strides) {
                        *entry = source;
                        ahead.follow(source, n * size);
                    } else {
                        access::gather(*size, buffer, source, shape, strides);
                        *entry = buffer;
                    }
                }
                Action::Splat { bits, size } => {
                    access::splat(*size, buffer, *bits, n);
                    *entry = buffer;
                }
                Action::Affine { strides, dtype } => {
                    let base = access::offset_at(origin, strides) as i64;
                    access::affine(*dtype, buffer, base, &Walk::new(shape, strides));
                    *entry = buffer;
                }
                Action::Apply { function, sources } => {
                    let mut addresses = [std::ptr::null(); MAX_ARITY];
                    for (address, &source) in addresses.iter_mut().zip(sources) {
                        *address = *scratch.cast::<*const u8>().add(usize::from(source));
                    }
                    if step.store.is_none_or(|store| direct >> store & 1 == 0) {
                        *entry = buffer;
                    }
                    function(n, (*entry).cast_mut(), addresses.as_ptr());
                    ahead.fetch();
                }
                Action::Given => {}
            }
        }
    }
}

impl StoreStep {
    /// # Safety
    /// The box lies in the iteration space.
    unsafe fn address(&self, region: &Region<'_>, operands: &[*mut u8]) -> *mut u8 {
        let start = (self.offset + access::offset_at(region.origin, &self.strides)) * self.size as isize;
        // SAFETY: the first element of the box.
        unsafe { operands[self.operand].offset(start) }
    }
}

/// Values whose accesses do not step along any moving dimension, and all that follows from them alone.
fn invariants(program: &TileProgram, moving: impl Fn(usize) -> bool) -> Vec<bool> {
    let still = |strides: &[isize]| strides.iter().enumerate().all(|(d, &s)| s == 0 || !moving(d));
    let mut invariant: Vec<bool> = Vec::with_capacity(program.values.len());
    for value in &program.values {
        let known = match &value.definition {
            Definition::Load { strides, .. } | Definition::Affine { strides } => still(strides),
            Definition::Constant { .. } => true,
            Definition::Given => false,
            Definition::Op { sources, .. } | Definition::Joined { sources, .. } => {
                sources.iter().all(|reg| invariant[usize::from(reg.0)])
            }
        };
        invariant.push(known);
    }
    invariant
}

/// How many lines to ask for after each operation so that the next box is there in time.
fn lines_per_operation(steps: &[Step], stores: &[StoreStep], tile: usize) -> usize {
    let sizes = steps.iter().filter_map(|step| match step.action {
        Action::Load { size, in_place: true, .. } => Some(size),
        _ => None,
    });
    let operations = steps.iter().filter(|step| matches!(step.action, Action::Apply { .. })).count();
    let stored = stores.iter().filter(|store| store.direct).map(|store| store.size);
    ahead::share(sizes.chain(stored).sum::<usize>() * tile, operations)
}

/// Operands that are read when a value is computed, or later. A loop of joined operations may replace what it reads.
fn readers(program: &TileProgram, value: usize, order: &[usize], last: &[usize]) -> Vec<usize> {
    let Some(position) = order.iter().position(|&v| v == value) else { return Vec::new() };
    let replaces = matches!(program.values[value].definition, Definition::Joined { .. });
    let read = |v: usize| last[v] > position || last[v] == position && !replaces;
    let mut operands: Vec<usize> = order
        .iter()
        .filter_map(|&v| match &program.values[v].definition {
            Definition::Load { operand, .. } if read(v) => Some(*operand),
            _ => None,
        })
        .collect();
    operands.sort_unstable();
    operands.dedup();
    operands
}

fn stores(program: &TileProgram, invariant: &[bool], order: &[usize], kept: &[usize]) -> Vec<StoreStep> {
    let last = registers::last_uses(program, order, kept);
    let mut aimed = Vec::new();
    let mut step = |store: &super::program::Store| {
        let value = usize::from(store.reg.0);
        let computed = program.values[value].definition.sources().is_some();
        let direct = computed && !invariant[value] && !aimed.contains(&value);
        aimed.push(value);
        StoreStep {
            value: store.reg.0,
            operand: store.operand,
            strides: store.strides.clone(),
            offset: store.offset,
            size: program.values[value].dtype.size(),
            direct,
            readers: readers(program, value, order, &last),
        }
    };
    program.stores.iter().map(&mut step).collect()
}

fn step(
    program: &TileProgram,
    value: usize,
    isa: Isa,
    invariant: &[bool],
    uniform: &[bool],
    stores: &[StoreStep],
) -> Option<Step> {
    let size = program.values[value].dtype.size();
    let action = match &program.values[value].definition {
        Definition::Load { operand, strides, offset } => {
            // A stored load is copied before any store of the box: the store may overwrite what it read.
            let stored = program.stores.iter().any(|store| usize::from(store.reg.0) == value);
            let in_place = !stored && !invariant[value];
            Action::Load { operand: *operand, strides: strides.clone(), offset: *offset, size, in_place }
        }
        Definition::Constant { bits } => Action::Splat { bits: *bits, size },
        Definition::Affine { strides } => Action::Affine { strides: strides.clone(), dtype: program.values[value].dtype },
        Definition::Given => Action::Given,
        Definition::Op { op, sources } => {
            // The type of the last operand: `Select` starts with its condition, `Philox` with its index.
            let of = program.values[usize::from(sources.last()?.0)].dtype;
            let same = sources[1..].iter().all(|reg| uniform[usize::from(reg.0)]);
            let function = if *op == OpCode::Philox && same { ops::philox_uniform(isa) } else { ops::lookup(*op, of, isa)? };
            Action::Apply { function, sources: listed(sources) }
        }
        Definition::Joined { row, sources } => {
            Action::Apply { function: (ops::JOINED.get(*row)?.function)(isa), sources: listed(sources) }
        }
    };
    let store = stores.iter().position(|store| store.direct && usize::from(store.value) == value);
    Some(Step { value: value as u16, action, store })
}

fn listed(sources: &[Reg]) -> [u16; MAX_ARITY] {
    let mut list = [0; MAX_ARITY];
    for (entry, reg) in list.iter_mut().zip(sources) {
        *entry = reg.0;
    }
    list
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

/// Estimated nanoseconds per element of a program on one core of a current server: a pure function of the program.
pub(crate) fn cost(program: &TileProgram) -> f64 {
    let bytes = |size: usize| 0.06 * size as f64;
    let values = program.values.iter().map(|value| match &value.definition {
        Definition::Load { strides, .. } => {
            let inner = strides.last().copied().unwrap_or(0);
            if inner.unsigned_abs() > 1 { 1.0 } else { bytes(value.dtype.size()) }
        }
        Definition::Op { op, .. } => operation_cost(*op) * if value.dtype.size() == 8 { 2.0 } else { 1.0 },
        _ => 0.01,
    });
    let stores = program.stores.iter().map(|s| bytes(program.values[usize::from(s.reg.0)].dtype.size()));
    values.chain(stores).sum()
}

fn operation_cost(op: OpCode) -> f64 {
    use OpCode::*;
    match op {
        Exp | Expm1 | Log | Log1p | Tanh | Logistic | Erf | Sin | Cos => 0.8,
        Pow | Philox => 2.0,
        Rem => 10.0,
        Div | Sqrt | Rsqrt => 0.2,
        _ => 0.06,
    }
}
