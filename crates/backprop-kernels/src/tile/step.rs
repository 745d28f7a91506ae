//! What is done for one value of a program, over a box.

use super::access::{self, Walk};
use super::machine::Region;
use super::ops::{self, OpFn};
use super::program::{Definition, OpCode, Reg, Store, TileProgram};
use super::sparse::SparseRows;
use crate::{DType, Isa};

/// The most operands of an operation.
const MAX_ARITY: usize = 6;

pub(super) enum Action {
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
    Sparse(SparseRows),
    /// Set by the caller before each box.
    Given,
}

pub(super) struct Step {
    pub(super) value: u16,
    pub(super) action: Action,
}

/// A box in the making: `n` elements of the extents `shape` from `origin` on.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) origin: &'a [usize],
    pub(super) shape: &'a [usize],
    pub(super) n: usize,
}

impl Step {
    /// The step of a value; `None` if an operation has no loop.
    pub(super) fn new(program: &TileProgram, value: usize, isa: Isa, in_place: bool, uniform: &[bool]) -> Option<Step> {
        let size = program.values[value].dtype.size();
        let action = match &program.values[value].definition {
            Definition::Load { operand, strides, offset } => {
                Action::Load { operand: *operand, strides: strides.clone(), offset: *offset, size, in_place }
            }
            Definition::Constant { bits } => Action::Splat { bits: *bits, size },
            Definition::Affine { strides } => Action::Affine { strides: strides.clone(), dtype: program.values[value].dtype },
            Definition::Sparse(rows) => Action::Sparse(rows.clone()),
            Definition::Given => Action::Given,
            Definition::Op { op, sources } => {
                // The type of the last operand: `Select` starts with its condition, `Philox` with its index.
                let of = program.values[usize::from(sources.last()?.0)].dtype;
                let same = sources[1..].iter().all(|reg| uniform[usize::from(reg.0)]);
                let function = if *op == OpCode::Philox && same { ops::philox_uniform(isa) } else { ops::lookup(*op, of, isa)? };
                Action::Apply { function, sources: listed(sources) }
            }
        };
        Some(Step { value: value as u16, action })
    }

    /// Computes the value into `target`, or finds it where it lies, and writes its address into the table. Whether it was found.
    ///
    /// # Safety
    /// As [`Kernel::run`](crate::Kernel::run); the part lies in the iteration space, `table` has an entry per value, the sources'
    /// are set, and `target` has room for the part.
    #[inline]
    pub(super) unsafe fn perform(&self, part: Part<'_>, operands: &[*mut u8], table: *mut *const u8, target: *mut u8) -> bool {
        // SAFETY: addresses lie in the operands' box or in the target.
        unsafe {
            let entry = table.add(usize::from(self.value));
            match &self.action {
                Action::Load { operand, strides, offset, size, in_place } => {
                    let start = (offset + access::offset_at(part.origin, strides)) * *size as isize;
                    let source = operands[*operand].offset(start);
                    if *in_place && access::is_contiguous(part.shape, strides) {
                        *entry = source;
                        return true;
                    }
                    access::gather(*size, target, source, part.shape, strides);
                    *entry = target;
                }
                Action::Splat { bits, size } => {
                    access::splat(*size, target, *bits, part.n);
                    *entry = target;
                }
                Action::Affine { strides, dtype } => {
                    let base = access::offset_at(part.origin, strides) as i64;
                    access::affine(*dtype, target, base, &Walk::new(part.shape, strides));
                    *entry = target;
                }
                Action::Sparse(rows) => {
                    rows.fill(target.cast(), part.origin, part.shape, operands);
                    *entry = target;
                }
                Action::Apply { function, sources } => {
                    let mut addresses = [std::ptr::null(); MAX_ARITY];
                    for (address, &source) in addresses.iter_mut().zip(sources) {
                        *address = *table.add(usize::from(source));
                    }
                    *entry = target;
                    function(part.n, target, addresses.as_ptr());
                }
                Action::Given => {}
            }
            false
        }
    }
}

fn listed(sources: &[Reg]) -> [u16; MAX_ARITY] {
    let mut list = [0; MAX_ARITY];
    for (entry, reg) in list.iter_mut().zip(sources) {
        *entry = reg.0;
    }
    list
}

/// A store of a program.
pub(super) struct StoreStep {
    pub(super) value: u16,
    pub(super) operand: usize,
    pub(super) strides: Vec<isize>,
    pub(super) offset: isize,
    pub(super) size: usize,
}

impl StoreStep {
    pub(super) fn new(program: &TileProgram, store: &Store) -> StoreStep {
        StoreStep {
            value: store.reg.0,
            operand: store.operand,
            strides: store.strides.clone(),
            offset: store.offset,
            size: program.values[usize::from(store.reg.0)].dtype.size(),
        }
    }

    /// Address of the first element from `origin` on.
    ///
    /// # Safety
    /// The origin lies in the iteration space.
    pub(super) unsafe fn address(&self, origin: &[usize], operands: &[*mut u8]) -> *mut u8 {
        let start = (self.offset + access::offset_at(origin, &self.strides)) * self.size as isize;
        // SAFETY: the first element of the box.
        unsafe { operands[self.operand].offset(start) }
    }

    /// Copies a box of the value to where it belongs.
    ///
    /// # Safety
    /// As [`Step::perform`]; the value's entry is set.
    pub(super) unsafe fn scatter(&self, region: &Region<'_>, operands: &[*mut u8], table: *const *const u8) {
        // SAFETY: the caller's promise.
        unsafe {
            let target = self.address(region.origin, operands);
            access::scatter(self.size, target, *table.add(usize::from(self.value)), region.shape, &self.strides);
        }
    }
}

/// Values whose accesses do not step along any moving dimension, and all that follows from them alone.
pub(super) fn invariants(program: &TileProgram, moving: impl Fn(usize) -> bool) -> Vec<bool> {
    let still = |strides: &[isize]| strides.iter().enumerate().all(|(d, &s)| s == 0 || !moving(d));
    let mut invariant: Vec<bool> = Vec::with_capacity(program.values.len());
    for value in &program.values {
        let known = match &value.definition {
            Definition::Load { strides, .. } | Definition::Affine { strides } => still(strides),
            Definition::Constant { .. } => true,
            Definition::Sparse(_) | Definition::Given => false,
            Definition::Op { sources, .. } => sources.iter().all(|reg| invariant[usize::from(reg.0)]),
        };
        invariant.push(known);
    }
    invariant
}
