//! A program whose operations are one function of machine instructions.
//!
//! What there is no notation for stays a loop of its own, before the function or after it, over the same box. The function goes
//! through a box row by row, or through all of it as one row where rows are short or everything is contiguous.

use super::access;
use super::compile::{Class, NotedCode, Plan, Sized, Slot};
use super::jit::{Elements, Function, MAX_STREAMS};
use super::machine::Region;
use super::program::{MAX_RANK, Reg, TileProgram};
use super::step::{Part, Step, StoreStep};
use crate::{Isa, ahead::LINE};

/// Where a stream's elements are.
pub(super) enum Source {
    /// In an operand, as a load or a store says.
    Operand { operand: usize, strides: Vec<isize>, offset: isize },
    /// At the value's address, the whole box without gaps.
    Value,
    /// Likewise, but rows may be further apart.
    Given,
    /// In the value's buffer, which becomes its address.
    Buffer,
    /// In the destination of a store where that has no gaps, else in the value's buffer.
    Store(usize),
}

/// What the function reads or writes one element after the other.
pub(super) struct Stream {
    pub(super) value: usize,
    /// Bytes of an element.
    pub(super) size: usize,
    pub(super) source: Source,
}

impl Stream {
    fn elements(&self, by_rows: bool) -> Elements {
        let same = match &self.source {
            Source::Operand { strides, .. } => by_rows && strides.iter().rev().nth(1) == Some(&0),
            _ => false,
        };
        Elements { flags: self.size == 1, same, past: false }
    }

    /// Whether the elements go past the caches if that is possible: they are stored right where they belong.
    fn goes_past(&self, program: &TileProgram) -> bool {
        let stores = || program.stores.iter().filter(|store| store.past);
        match self.source {
            Source::Operand { operand, .. } => stores().any(|store| store.operand == operand),
            Source::Store(i) => program.dims.len() == 1 && program.stores[i].past,
            _ => false,
        }
    }
}

/// A function that stores some streams past the caches.
struct Past {
    function: Function,
    streams: Vec<usize>,
}

/// A compiled program.
pub(super) struct Compiled {
    function: Function,
    /// What else the function can be, where some stores should go past the caches.
    past: Option<Box<Past>>,
    streams: Vec<Stream>,
    slots: Vec<Slot>,
    /// The same in every box of a task.
    uniform: Vec<Sized>,
    before: Vec<Step>,
    after: Vec<Step>,
    stores: Vec<StoreStep>,
    /// Which of them the function does not do.
    scattered: Vec<bool>,
    by_rows: bool,
    /// Byte offset in the scratch of each value's buffer.
    buffers: Vec<usize>,
    /// Of the pool, and of the bytes from row to row of the given value.
    pool: usize,
    given_stride: usize,
    /// Whether rows of the given value may be apart.
    by_given_rows: bool,
    scratch: usize,
    tile: usize,
}

impl Compiled {
    /// Compiles a program; `None` if it has no operation for a function, or too many streams or values for one.
    pub(super) fn new(program: &TileProgram, isa: Isa, results: &[Reg]) -> Option<Compiled> {
        let plan = Plan::new(program, results)?;
        let noted = plan.note()?;
        let elements: Vec<Elements> = noted.streams.iter().map(|stream| stream.elements(plan.by_rows)).collect();
        let function = Function::new(&noted.code, &elements, isa)?;
        let past = Past::new(program, &noted, &elements, isa).map(Box::new);
        let layout = plan.layout(noted.slots.len());
        let by_given_rows = plan.by_rows && !plan.reads_given_outside(&noted.scattered);
        Some(Compiled {
            function,
            past,
            stores: program.stores.iter().map(|store| StoreStep::new(program, store)).collect(),
            streams: noted.streams,
            slots: noted.slots,
            scattered: noted.scattered,
            uniform: plan.uniform(isa)?,
            before: plan.steps(isa, &[Class::Input, Class::Before])?,
            after: plan.steps(isa, &[Class::After])?,
            by_rows: plan.by_rows,
            buffers: layout.buffers,
            pool: layout.pool,
            given_stride: layout.given_stride,
            by_given_rows,
            scratch: layout.scratch,
            tile: layout.tile,
        })
    }

    pub(super) fn scratch(&self) -> usize {
        self.scratch
    }

    pub(super) fn tile(&self) -> usize {
        self.tile
    }

    /// See [`Machine::row_stride_of_given`](super::machine::Machine::row_stride_of_given).
    ///
    /// # Safety
    /// `scratch` is the one of the runs.
    pub(super) unsafe fn row_stride_of_given(&self, scratch: *mut u8) -> Option<*mut isize> {
        // SAFETY: the scratch has room for it there.
        self.by_given_rows.then(|| unsafe { scratch.add(self.given_stride).cast() })
    }

    /// Runs the program over one box.
    ///
    /// # Safety
    /// As [`Machine::run`](super::machine::Machine::run).
    pub(super) unsafe fn run(&self, region: Region<'_>, operands: &[*mut u8], scratch: *mut u8) {
        let part = Part { origin: region.origin, shape: region.shape, n: region.shape.iter().product() };
        // SAFETY: the caller's promise; every address comes from the operands' box or the scratch's layout.
        unsafe {
            let table = scratch.cast::<*const u8>();
            if region.first {
                self.fill_pool(&region, operands, scratch);
            }
            for step in &self.before {
                step.perform(part, operands, table, scratch.add(self.buffers[usize::from(step.value)]));
            }
            self.call(part, operands, scratch);
            for step in &self.after {
                step.perform(part, operands, table, scratch.add(self.buffers[usize::from(step.value)]));
            }
            for (store, scattered) in self.stores.iter().zip(&self.scattered) {
                if *scattered || !(self.by_rows || access::is_contiguous(region.shape, &store.strides)) {
                    store.scatter(&region, operands, table);
                }
            }
        }
    }

    /// Computes what is the same everywhere.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn fill_pool(&self, region: &Region<'_>, operands: &[*mut u8], scratch: *mut u8) {
        let full = Part { origin: region.origin, shape: region.full, n: region.full.iter().product() };
        let one = Part { shape: &[1; MAX_RANK][..region.shape.len()], n: 1, ..full };
        // SAFETY: the caller's promise; a buffer has room for one element, or for a whole box.
        unsafe {
            let table = scratch.cast::<*const u8>();
            for Sized { step, whole } in &self.uniform {
                let target = scratch.add(self.buffers[usize::from(step.value)]);
                step.perform(if *whole { full } else { one }, operands, table, target);
            }
            for (i, slot) in self.slots.iter().enumerate() {
                let element = *table.add(slot.value);
                let bits = if slot.flags { u32::from(*element != 0).wrapping_neg() } else { *element.cast::<u32>() };
                *scratch.add(self.pool).cast::<[u32; 16]>().add(i) = [bits; 16];
            }
        }
    }

    /// Runs the function over a box.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn call(&self, part: Part<'_>, operands: &[*mut u8], scratch: *mut u8) {
        let rank = part.shape.len();
        let (inner, rows) = match self.by_rows {
            true => (part.shape[rank - 1], if rank > 1 { part.shape[rank - 2] } else { 1 }),
            false => (part.n, 1),
        };
        let outer = if part.n == 0 { 0 } else { part.n / (inner * rows) };
        let mut origin = [0; MAX_RANK];
        origin[..rank].copy_from_slice(part.origin);
        let mut strides = [0; MAX_STREAMS];
        for (stride, stream) in strides.iter_mut().zip(&self.streams) {
            // SAFETY: the stride of the given value is set.
            *stride = unsafe { self.row_stride(stream, inner, rank, scratch) };
        }
        for plane in 0..outer {
            let mut addresses = [std::ptr::null(); MAX_STREAMS];
            for (address, stream) in addresses.iter_mut().zip(&self.streams) {
                // SAFETY: the plane lies in the box.
                *address = unsafe { self.address(stream, plane * rows * inner, &origin[..rank], part.shape, operands, scratch) };
            }
            // SAFETY: every stream has the plane's elements.
            unsafe {
                self.function_for(rows, &addresses, &strides).call(rows, inner, &addresses, &strides, scratch.add(self.pool))
            };
            advance(&mut origin[..rank], part.origin, part.shape);
        }
    }

    /// The function for a plane. What goes past the caches begins with a cache line in every row, and takes nobody's place: that is in
    /// a cache.
    fn function_for(&self, rows: usize, addresses: &[*const u8], strides: &[isize]) -> &Function {
        let Some(past) = &self.past else { return &self.function };
        let fits = |&s: &usize| {
            let whole = (addresses[s] as usize).is_multiple_of(LINE) && (rows == 1 || strides[s] % LINE as isize == 0);
            whole && addresses.iter().filter(|&&address| address == addresses[s]).count() == 1
        };
        if past.streams.iter().all(fits) { &past.function } else { &self.function }
    }

    /// Makes what went past the caches known to other threads that are told later.
    pub(super) fn publish(&self) {
        #[cfg(target_arch = "x86_64")]
        if self.past.is_some() {
            // SAFETY: every x86-64 processor has the instruction.
            unsafe { std::arch::x86_64::_mm_sfence() };
        }
    }

    /// Bytes from row to row of a stream.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn row_stride(&self, stream: &Stream, inner: usize, rank: usize, scratch: *mut u8) -> isize {
        match &stream.source {
            Source::Operand { strides, .. } if rank > 1 => strides[rank - 2] * stream.size as isize,
            Source::Operand { .. } => 0,
            // SAFETY: the scratch has room for it there.
            Source::Given if self.by_given_rows => unsafe { *scratch.add(self.given_stride).cast::<isize>() },
            _ => (inner * stream.size) as isize,
        }
    }

    /// Address of a stream's first element in a plane that has `done` elements of the box before it.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn address(
        &self,
        stream: &Stream,
        done: usize,
        origin: &[usize],
        shape: &[usize],
        operands: &[*mut u8],
        scratch: *mut u8,
    ) -> *const u8 {
        // SAFETY: the plane lies in the box, and the box in the operands and buffers.
        unsafe {
            let entry = scratch.cast::<*const u8>().add(stream.value);
            match &stream.source {
                Source::Operand { operand, strides, offset } => {
                    operands[*operand].offset((offset + access::offset_at(origin, strides)) * stream.size as isize)
                }
                Source::Given | Source::Value => (*entry).add(done * stream.size),
                Source::Buffer => {
                    *entry = scratch.add(self.buffers[stream.value]);
                    (*entry).add(done * stream.size)
                }
                Source::Store(i) => {
                    let store = &self.stores[*i];
                    let target = match access::is_contiguous(shape, &store.strides) {
                        true => store.address(origin, operands),
                        false => scratch.add(self.buffers[stream.value]),
                    };
                    *entry = target;
                    target
                }
            }
        }
    }
}

impl Past {
    /// `None` if no store of the program goes past the caches.
    fn new(program: &TileProgram, noted: &NotedCode, elements: &[Elements], isa: Isa) -> Option<Past> {
        let stored = noted.code.stores.iter().map(|&(_, stream)| stream);
        let goes_past = |&s: &usize| noted.streams[s].size == size_of::<f32>() && noted.streams[s].goes_past(program);
        let streams: Vec<usize> = stored.filter(goes_past).collect();
        if streams.is_empty() || isa != Isa::Avx512 {
            return None;
        }
        let mut elements = elements.to_vec();
        streams.iter().for_each(|&s| elements[s].past = true);
        Some(Past { function: Function::new(&noted.code, &elements, isa)?, streams })
    }
}

/// Steps to the next plane of a box.
fn advance(origin: &mut [usize], start: &[usize], shape: &[usize]) {
    for d in (0..shape.len().saturating_sub(2)).rev() {
        origin[d] += 1;
        if origin[d] < start[d] + shape[d] {
            return;
        }
        origin[d] = start[d];
    }
}
