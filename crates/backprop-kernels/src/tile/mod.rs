//! The fused tile machine: elementwise programs over tiles that stay in the first-level cache.
//!
//! A [`TileProgram`] describes an elementwise computation over a row-major iteration space: loads with one stride per dimension
//! (0 broadcasts, negative reverses), constants, indices, operations and stores. [`Fused`] runs it as a kernel, a
//! [`TileEpilogue`] runs it on the output tile of a product, a [`Reduce`](crate::Reduce) reduces its result.
//!
//! A program becomes one function of machine instructions, whose values stay in registers (`jit`), where the processor and the
//! system serve; elsewhere every operation is one vector loop. Either way each operation rounds exactly as if it ran alone over
//! memory: fusing changes no bit. Integer arithmetic wraps; `x / 0` has all bits set, `x rem 0` is `x`, a shift by the width or more
//! is 0. `max` and `min` propagate NaN and order −0 below +0. NaN payloads are unspecified.
//!
//! A result of `f32` arithmetic that would be denormal, below 2⁻¹²⁶, is a zero of its sign: some processors take a hundred cycles for
//! each, and tiny gradients have as many as there are parameters. Operands that are denormal count as they are.

mod access;
mod collapse;
mod compile;
mod compiled;
mod epilogue;
mod fused;
mod interpreter;
mod interval;
mod jit;
mod machine;
pub(crate) mod ops;
mod program;
mod registers;
mod sparse;
mod step;

pub(crate) use access::splat;
pub use epilogue::TileEpilogue;
pub use fused::Fused;
pub(crate) use interval::Interval;
pub(crate) use program::{Definition, MAX_RANK};
pub use program::{OpCode, Reg, TileError, TileProgram};

#[cfg(test)]
mod jit_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
