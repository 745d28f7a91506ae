//! A program as loops over boxes, one for each operation.

use super::access;
use super::machine::{Region, SMALLEST_TILE, TILE};
use super::program::{Definition, TileError, TileProgram};
use super::registers;
use super::step::{Action, Part, Step, StoreStep, invariants};
use crate::Isa;
use crate::ahead::{self, Ahead};

/// The most stores of a program.
const MAX_STORES: usize = 64;
/// Bytes of tile buffers that leave room for streamed operands in a 32 KiB first-level cache.
const CACHE: usize = 24 << 10;

struct Planned {
    step: Step,
    /// The same in every box of a task: computed once, over a full box.
    invariant: bool,
}

struct PlannedStore {
    store: StoreStep,
    /// The value may be computed right into the destination where that is contiguous and no load reads the operand.
    direct: bool,
}

/// A program's loops. Its scratch holds one address per value and the tile buffers.
pub(super) struct Interpreter {
    steps: Vec<Planned>,
    stores: Vec<PlannedStore>,
    /// Byte offset in the scratch of each value's buffer.
    buffers: Vec<usize>,
    loaded: Vec<usize>,
    scratch: usize,
    tile: usize,
    /// Cache lines of the next box to ask for after each operation.
    share: usize,
}

impl Interpreter {
    /// Plans a program. `moving(d)` says whether boxes of one task differ in their position along dimension `d`; `kept` are the
    /// values that are stored or handed out.
    pub(super) fn new(
        program: &TileProgram,
        isa: Isa,
        moving: impl Fn(usize) -> bool,
        kept: &[usize],
    ) -> Result<Interpreter, TileError> {
        if program.stores.len() > MAX_STORES {
            return Err(TileError::TooLarge);
        }
        let invariant = invariants(program, moving);
        let uniform = invariants(program, |_| true);
        let allocation = registers::allocate(program, &invariant, kept);
        let tile = if allocation.bytes(TILE) <= CACHE { TILE } else { SMALLEST_TILE };
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
        let planned = |&v: &usize| {
            // A stored load is copied before any store of the box: the store may overwrite what it read.
            let stored = program.stores.iter().any(|store| usize::from(store.reg.0) == v);
            let step = Step::new(program, v, isa, !stored && !invariant[v], &uniform)?;
            Some(Planned { step, invariant: invariant[v] })
        };
        let steps = allocation.order.iter().map(planned).collect::<Option<Vec<Planned>>>().ok_or(TileError::NoResult)?;
        let stores = stores(program, &invariant);
        Ok(Interpreter {
            share: lines_per_operation(&steps, &stores, tile),
            steps,
            stores,
            buffers: allocation.buffer.iter().map(|b| b.map_or(table, |b| starts[b])).collect(),
            loaded: loaded(program),
            scratch: table + allocation.bytes(tile),
            tile,
        })
    }

    /// Bytes of scratch a running task needs.
    pub(super) fn scratch(&self) -> usize {
        self.scratch
    }

    /// The most elements of a box.
    pub(super) fn tile(&self) -> usize {
        self.tile
    }

    /// Runs the program over one box.
    ///
    /// # Safety
    /// As [`Machine::run`](super::machine::Machine::run).
    pub(super) unsafe fn run(&self, region: Region<'_>, operands: &[*mut u8], scratch: *mut u8) {
        let n: usize = region.shape.iter().product();
        let part = Part { origin: region.origin, shape: region.shape, n };
        let full = Part { shape: region.full, n: region.full.iter().product(), ..part };
        // SAFETY: the caller's promise; every address comes from the operands' box or the scratch's layout.
        unsafe {
            let table = scratch.cast::<*const u8>();
            let mut ahead = Ahead::new(self.share);
            let direct = self.aim_stores(&region, n, operands, scratch, &mut ahead);
            for planned in &self.steps {
                if !planned.invariant {
                    self.perform(&planned.step, part, operands, scratch, direct, &mut ahead);
                } else if region.first {
                    self.perform(&planned.step, full, operands, scratch, direct, &mut ahead);
                }
            }
            for (i, planned) in self.stores.iter().enumerate() {
                if direct >> i & 1 == 0 {
                    planned.store.scatter(&region, operands, table);
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
        for (i, PlannedStore { store, direct: may }) in self.stores.iter().enumerate() {
            let base = operands[store.operand];
            let read = self.loaded.iter().any(|&operand| operands[operand] == base);
            if *may && !read && access::is_contiguous(region.shape, &store.strides) {
                // SAFETY: the table has one entry per value; the address lies in the destination.
                unsafe {
                    let target = store.address(region.origin, operands);
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
    unsafe fn perform(
        &self,
        step: &Step,
        part: Part<'_>,
        operands: &[*mut u8],
        scratch: *mut u8,
        direct: u64,
        ahead: &mut Ahead,
    ) {
        let value = usize::from(step.value);
        // SAFETY: the value's buffer has room for a tile; the entry of a direct store is set.
        unsafe {
            let table = scratch.cast::<*const u8>();
            let aimed = direct != 0 && self.is_direct(step.value, direct);
            let target = if aimed { (*table.add(value)).cast_mut() } else { scratch.add(self.buffers[value]) };
            let found = step.perform(part, operands, table, target);
            match &step.action {
                Action::Load { size, .. } if found => ahead.follow(*table.add(value), part.n * size),
                Action::Apply { .. } => ahead.fetch(),
                _ => {}
            }
        }
    }

    fn is_direct(&self, value: u16, direct: u64) -> bool {
        self.stores.iter().enumerate().any(|(i, planned)| direct >> i & 1 == 1 && planned.store.value == value)
    }
}

/// How many lines to ask for after each operation so that the next box is there in time.
fn lines_per_operation(steps: &[Planned], stores: &[PlannedStore], tile: usize) -> usize {
    let moving = || steps.iter().filter(|planned| !planned.invariant).map(|planned| &planned.step.action);
    let sizes = moving().filter_map(|action| match action {
        Action::Load { size, in_place: true, .. } => Some(*size),
        _ => None,
    });
    let operations = moving().filter(|action| matches!(action, Action::Apply { .. })).count();
    let stored = stores.iter().filter(|planned| planned.direct).map(|planned| planned.store.size);
    ahead::share(sizes.chain(stored).sum::<usize>() * tile, operations)
}

fn loaded(program: &TileProgram) -> Vec<usize> {
    let mut operands: Vec<usize> = program
        .values
        .iter()
        .filter_map(|value| match &value.definition {
            Definition::Load { operand, .. } => Some(*operand),
            _ => None,
        })
        .collect();
    operands.sort_unstable();
    operands.dedup();
    operands
}

fn stores(program: &TileProgram, invariant: &[bool]) -> Vec<PlannedStore> {
    let mut aimed = Vec::new();
    let mut planned = |store: &super::program::Store| {
        let value = usize::from(store.reg.0);
        let definition = &program.values[value].definition;
        let computed = definition.sources().is_some() || matches!(definition, Definition::Sparse(_));
        let direct = computed && !invariant[value] && !aimed.contains(&value);
        aimed.push(value);
        PlannedStore { store: StoreStep::new(program, store), direct }
    };
    program.stores.iter().map(&mut planned).collect()
}
