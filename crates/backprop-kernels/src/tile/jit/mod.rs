//! Tile programs as machine instructions, made when a step is compiled: values stay in registers from one operation to the next.
//!
//! The instructions are those the loops of the interpreter consist of, in the same order on each element: they round alike. Where
//! there is no notation for an operation, or no memory that may be executed, the interpreter remains.

mod assembler;
mod code;
mod emit;
mod function;
mod memory;
mod note;

pub(super) use code::{Code, Id, Inst};
pub(super) use emit::{Elements, MAX_STREAMS, SLOT};
pub(super) use function::Function;
pub(super) use note::{note, supports};
