//! From a tile program to a compiled one: what goes into the function, what stays outside, and where everything lies.

use super::compiled::{Source, Stream};
use super::jit::{Code, Id, Inst, MAX_STREAMS, SLOT, note, supports};
use super::machine::{SMALLEST_TILE, TILE};
use super::program::{Definition, Reg, TileProgram};
use super::registers::operands;
use super::step::{Step, invariants};
use crate::{DType, Isa};
use std::cell::RefCell;

/// Rows shorter than this are taken together: a vector would be mostly empty.
const SHORT: usize = 16;
/// The most elements of a box.
const LARGE: usize = 4 * TILE;
/// Bytes of buffers that leave room for streamed operands in a 32 KiB first-level cache.
const CACHE: usize = 24 << 10;

/// How a value is computed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Unused,
    /// The same everywhere.
    Uniform,
    /// Found or laid out before the function runs.
    Input,
    /// A loop before the function.
    Before,
    /// In the function.
    Noted,
    /// A loop after it.
    After,
}

/// A value that is the same everywhere and has a slot of the pool.
pub(super) struct Slot {
    pub(super) value: usize,
    pub(super) flags: bool,
}

/// A step, and whether its value needs room for a whole box.
pub(super) struct Sized {
    pub(super) step: Step,
    pub(super) whole: bool,
}

/// The function's code, what it reads and writes, and which stores are left.
pub(super) struct NotedCode {
    pub(super) code: Code,
    pub(super) streams: Vec<Stream>,
    pub(super) slots: Vec<Slot>,
    pub(super) scattered: Vec<bool>,
}

/// Where things are in the scratch.
pub(super) struct Layout {
    pub(super) buffers: Vec<usize>,
    pub(super) pool: usize,
    pub(super) given_stride: usize,
    pub(super) scratch: usize,
    pub(super) tile: usize,
}

/// A program and what becomes of each of its values.
pub(super) struct Plan<'a> {
    program: &'a TileProgram,
    classes: Vec<Class>,
    results: Vec<usize>,
    /// Values that loops of their own read, those after the function, the function, and stores.
    by_loops: Vec<bool>,
    by_after: Vec<bool>,
    by_function: Vec<bool>,
    stored: Vec<bool>,
    pub(super) by_rows: bool,
}

impl<'a> Plan<'a> {
    /// `None` if nothing goes into a function.
    pub(super) fn new(program: &'a TileProgram, results: &[Reg]) -> Option<Plan<'a>> {
        let index = |reg: &Reg| usize::from(reg.0);
        let none = || vec![false; program.values.len()];
        let results: Vec<usize> = results.iter().map(index).collect();
        let mut stored = none();
        program.stores.iter().for_each(|store| stored[index(&store.reg)] = true);
        let classes = classify(program, |v| stored[v] || results.contains(&v));
        classes.contains(&Class::Noted).then_some(())?;
        let (mut by_loops, mut by_after, mut by_function) = (none(), none(), none());
        for (v, class) in classes.iter().enumerate() {
            for source in operands(program, v) {
                match class {
                    Class::Noted => by_function[source] = true,
                    Class::Before => by_loops[source] = true,
                    Class::After => (by_loops[source], by_after[source]) = (true, true),
                    _ => {}
                }
            }
        }
        // Boxes of one dimension, and those of collapsed programs that have one, are one row anyway.
        let by_rows = program.dims.len() > 1 && program.dims.last().is_some_and(|&inner| inner >= SHORT);
        Some(Plan { program, classes, results, by_loops, by_after, by_function, stored, by_rows })
    }

    fn size(&self, v: usize) -> usize {
        self.program.values[v].dtype.size()
    }

    fn is_kept(&self, v: usize) -> bool {
        self.stored[v] || self.results.contains(&v)
    }

    /// Notes the function.
    pub(super) fn note(&self) -> Option<NotedCode> {
        let has_slot = |&v: &usize| self.classes[v] == Class::Uniform && self.by_function[v] && self.constant(v).is_none();
        let values = &self.program.values;
        let slots: Vec<Slot> =
            (0..values.len()).filter(has_slot).map(|value| Slot { value, flags: values[value].dtype == DType::Bool }).collect();
        let code = RefCell::new(Code::new(slots.len()));
        let (mut streams, mut ids) = (Vec::new(), vec![None; values.len()]);
        for v in (0..values.len()).filter(|&v| self.classes[v] == Class::Noted) {
            let Definition::Op { op, sources } = &values[v].definition else { return None };
            let sources: Vec<usize> = sources.iter().map(|reg| usize::from(reg.0)).collect();
            for &source in &sources {
                if ids[source].is_none() {
                    ids[source] = Some(self.source(source, &slots, &code, &mut streams));
                }
            }
            let noted: Option<Vec<Id>> = sources.iter().map(|&s| ids[s]).collect();
            ids[v] = Some(note(&code, *op, &noted?)?);
        }
        if let Some(v) = self.stored_as_given() {
            ids[v] = ids[v].or_else(|| Some(self.source(v, &slots, &code, &mut streams)));
        }
        let mut code = code.into_inner();
        let scattered = self.outputs(&ids, &mut code, &mut streams);
        (streams.len() <= MAX_STREAMS).then_some(NotedCode { code, streams, slots, scattered })
    }

    /// The bits of an `F32` constant.
    fn constant(&self, v: usize) -> Option<u32> {
        match &self.program.values[v] {
            super::program::Value { dtype: DType::F32, definition: Definition::Constant { bits } } => Some(*bits as u32),
            _ => None,
        }
    }

    /// How the function comes by a value from outside.
    fn source(&self, v: usize, slots: &[Slot], code: &RefCell<Code>, streams: &mut Vec<Stream>) -> Id {
        let mut code = code.borrow_mut();
        if let Some(bits) = self.constant(v) {
            return code.constant(bits);
        }
        if let Some(slot) = slots.iter().position(|slot| slot.value == v) {
            return code.push(if slots[slot].flags { Inst::MaskOfPool { slot } } else { Inst::OfPool { slot } });
        }
        let flags = self.program.values[v].dtype == DType::Bool;
        let stream = streams.len();
        let (source, of_row) = match &self.program.values[v].definition {
            Definition::Given => (Source::Given, false),
            Definition::Load { operand, strides, offset } if self.streamed(v) => {
                let of_row = strides.last() == Some(&0);
                (Source::Operand { operand: *operand, strides: strides.clone(), offset: *offset }, of_row)
            }
            _ => (Source::Value, false),
        };
        streams.push(Stream { value: v, size: self.size(v), source });
        code.push(match (of_row, flags) {
            (true, _) => Inst::OfRow { stream },
            (_, true) => Inst::LoadFlags { stream },
            _ => Inst::Load { stream },
        })
    }

    /// Whether the function reads a load right where it lies.
    fn streamed(&self, v: usize) -> bool {
        let Definition::Load { strides, .. } = &self.program.values[v].definition else { return false };
        let inner = strides.last().copied().unwrap_or(0);
        let fits = inner == 1 || inner == 0 && self.program.values[v].dtype == DType::F32;
        self.by_rows && fits && !self.by_loops[v] && !self.is_kept(v)
    }

    /// The given value, if the function is to store it as it is.
    fn stored_as_given(&self) -> Option<usize> {
        let given = self.program.given_register().map(|reg| usize::from(reg.0))?;
        (self.by_rows && self.stored[given]).then_some(given)
    }

    /// Whether anything but the function reads the given value: then its rows must follow each other.
    pub(super) fn reads_given_outside(&self, scattered: &[bool]) -> bool {
        let Some(given) = self.program.given_register() else { return false };
        let v = usize::from(given.0);
        let left = |(store, &scattered): (&super::program::Store, &bool)| scattered && store.reg == given;
        self.by_loops[v] || self.results.contains(&v) || self.program.stores.iter().zip(scattered).any(left)
    }

    /// Notes what the function writes; gives which stores it does not do.
    fn outputs(&self, ids: &[Option<Id>], code: &mut Code, streams: &mut Vec<Stream>) -> Vec<bool> {
        let mut scattered = vec![true; self.program.stores.len()];
        // Whether a value's address is set by what the function writes already.
        let mut placed = vec![false; ids.len()];
        let mut write = |v: usize, id: Id, source: Source| {
            if code.insts[id].is_mask() {
                // Bytes of flags are written from it.
                code.slot(1);
            }
            code.stores.push((id, streams.len()));
            streams.push(Stream { value: v, size: self.size(v), source });
        };
        for (i, store) in self.program.stores.iter().enumerate() {
            let v = usize::from(store.reg.0);
            let written = self.classes[v] == Class::Noted || self.stored_as_given() == Some(v);
            let (true, Some(id)) = (written, ids[v]) else { continue };
            if self.by_rows && store.strides.last() == Some(&1) {
                let source = Source::Operand { operand: store.operand, strides: store.strides.clone(), offset: store.offset };
                write(v, id, source);
                scattered[i] = false;
            } else if !self.by_rows && !placed[v] {
                write(v, id, Source::Store(i));
                placed[v] = true;
                scattered[i] = false;
            }
        }
        for v in (0..ids.len()).filter(|&v| self.classes[v] == Class::Noted && !placed[v]) {
            let left = |(store, &scattered): (&super::program::Store, &bool)| scattered && usize::from(store.reg.0) == v;
            let wanted = self.by_after[v] || self.results.contains(&v) || self.program.stores.iter().zip(&scattered).any(left);
            if let (true, Some(id)) = (wanted, ids[v]) {
                write(v, id, Source::Buffer);
            }
        }
        scattered
    }

    /// Values that are the same everywhere and needed for a whole box, because loops or stores read them.
    fn whole(&self) -> Vec<bool> {
        let mut whole: Vec<bool> = (0..self.classes.len()).map(|v| self.by_loops[v] || self.is_kept(v)).collect();
        for v in (0..whole.len()).rev().filter(|&v| self.classes[v] == Class::Uniform) {
            if whole[v] {
                operands(self.program, v).into_iter().for_each(|source| whole[source] = true);
            }
        }
        whole
    }

    pub(super) fn uniform(&self, isa: Isa) -> Option<Vec<Sized>> {
        let (same, whole) = (vec![true; self.classes.len()], self.whole());
        let step = |v: usize| Some(Sized { step: Step::new(self.program, v, isa, false, &same)?, whole: whole[v] });
        (0..self.classes.len()).filter(|&v| self.classes[v] == Class::Uniform).map(step).collect()
    }

    /// The steps of values of some classes that are needed outside the function, or that it reads where they have been laid out.
    pub(super) fn steps(&self, isa: Isa, classes: &[Class]) -> Option<Vec<Step>> {
        let uniform = invariants(self.program, |_| true);
        let step = |v: usize| Step::new(self.program, v, isa, self.in_place(v), &uniform);
        (0..self.classes.len()).filter(|&v| classes.contains(&self.classes[v]) && !self.streamed(v)).map(step).collect()
    }

    /// Whether a load may be read where it lies until the function has run.
    fn in_place(&self, v: usize) -> bool {
        !self.stored[v] && !self.by_after[v]
    }

    /// Where everything lies in the scratch; the pool has that many slots.
    pub(super) fn layout(&self, slots: usize) -> Layout {
        let whole = self.whole();
        let found = |v: usize| match &self.program.values[v].definition {
            Definition::Given => true,
            Definition::Load { strides, .. } => self.streamed(v) || self.in_place(v) && strides[..] == [1],
            _ => false,
        };
        // In a box of one contiguous row, what is stored is written right there.
        let written = |v: usize| {
            let stores = || self.program.stores.iter().filter(move |store| usize::from(store.reg.0) == v);
            let there = stores().all(|store| store.strides.last() == Some(&1) && (self.by_rows || store.strides.len() == 1));
            there && !self.by_after[v] && !self.results.contains(&v)
        };
        let elements = |v: usize| match self.classes[v] {
            Class::Unused => 0,
            Class::Uniform => usize::from(whole[v]),
            Class::Noted => usize::from(!written(v)),
            _ => usize::from(!found(v)),
        };
        let bytes: usize = (0..self.classes.len()).map(|v| elements(v) * self.size(v)).sum();
        // A box costs a hundred nanoseconds besides its elements: the larger the better.
        let tile = [LARGE, TILE].into_iter().find(|&tile| bytes * tile <= CACHE).unwrap_or(SMALLEST_TILE);
        let given_stride = (self.classes.len() * size_of::<*const u8>()).next_multiple_of(64);
        let pool = given_stride + 64;
        let mut scratch = pool + slots * SLOT;
        let mut place = |v: usize| {
            let start = scratch;
            let least = usize::from(self.classes[v] == Class::Uniform) * 64;
            scratch += (elements(v) * self.size(v) * tile).next_multiple_of(64).max(least);
            start
        };
        let buffers = (0..self.classes.len()).map(&mut place).collect();
        Layout { buffers, pool, given_stride, scratch, tile }
    }
}

/// What becomes of each value; `kept` are those that are needed outside.
fn classify(program: &TileProgram, kept: impl Fn(usize) -> bool) -> Vec<Class> {
    let uniform = invariants(program, |_| true);
    let mut needed: Vec<bool> = (0..program.values.len()).map(kept).collect();
    for v in (0..needed.len()).rev() {
        if needed[v] {
            operands(program, v).into_iter().for_each(|source| needed[source] = true);
        }
    }
    let mut classes: Vec<Class> = Vec::with_capacity(needed.len());
    for (v, value) in program.values.iter().enumerate() {
        let of_sources = |class: Class| operands(program, v).into_iter().any(|source| classes[source] == class);
        classes.push(match &value.definition {
            _ if !needed[v] => Class::Unused,
            _ if uniform[v] => Class::Uniform,
            Definition::Op { op, sources } => {
                let types: Vec<DType> = sources.iter().map(|&reg| program.values[usize::from(reg.0)].dtype).collect();
                match () {
                    () if of_sources(Class::After) => Class::After,
                    () if supports(*op, &types) => Class::Noted,
                    () if of_sources(Class::Noted) => Class::After,
                    () => Class::Before,
                }
            }
            _ => Class::Input,
        });
    }
    classes
}
