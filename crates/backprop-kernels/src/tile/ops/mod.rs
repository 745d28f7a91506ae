//! The vector loops behind the operations, one function pointer per (operation, element type, instruction set).

pub(super) mod convert;
mod float;
mod integer;
mod lanes;
mod random;

use super::OpCode;
use crate::{DType, Isa};

pub(crate) use lanes::Flag;
pub(crate) use random::philox_uniform;

/// Applies an operation to `n` elements: `src` lists the operands' addresses, none of which overlaps `dst`.
pub(crate) type OpFn = unsafe fn(n: usize, dst: *mut u8, src: *const *const u8);

/// The loop of an operation on operands of type `of`, if it exists.
pub(crate) fn lookup(op: OpCode, of: DType, isa: Isa) -> Option<OpFn> {
    if let OpCode::Convert(to) = op {
        return Some(convert::lookup(of, to, isa));
    }
    match of {
        DType::F32 => float::lookup_f32(op, isa),
        DType::F64 => float::lookup_f64(op, isa),
        DType::I32 => integer::lookup::<i32>(op, isa),
        DType::I64 => integer::lookup::<i64>(op, isa),
        DType::U32 if op == OpCode::Philox => Some(random::philox_general(isa)),
        DType::U32 => integer::lookup::<u32>(op, isa),
        DType::U64 => integer::lookup::<u64>(op, isa),
        DType::U8 => integer::lookup::<u8>(op, isa),
        DType::Bool => integer::lookup_bool(op, isa),
        // Half precision is stored and moved; arithmetic happens in f32.
        DType::F16 | DType::BF16 => (op == OpCode::Select).then(|| lanes::op3::<integer::Choose<u16>>(isa)),
    }
}
