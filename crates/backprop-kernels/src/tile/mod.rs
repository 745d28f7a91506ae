//! The fused tile machine: bytecode over tiles of up to 1,024 elements that stay in the first-level cache.
//!
//! A [`TileProgram`] describes an elementwise computation over a row-major iteration space: loads with one stride per dimension
//! (0 broadcasts, negative reverses), constants, indices, operations and stores. [`Fused`] runs it as a kernel, a
//! [`TileEpilogue`] runs it on the output tile of a product, a [`Reduce`](crate::Reduce) reduces its result.
//!
//! Every operation is one vector loop per instruction set and rounds exactly as if it ran alone over memory: fusing changes no
//! bit. Integer arithmetic wraps; `x / 0` has all bits set, `x rem 0` is `x`, a shift by the width or more is 0. `max` and `min`
//! propagate NaN and order −0 below +0. NaN payloads are unspecified. Denormals are computed, not flushed: nothing here depends
//! on the processor's rounding or flushing mode, and only a denormal operand itself can cost extra cycles.

mod access;
mod collapse;
mod epilogue;
mod fused;
mod interval;
mod join;
mod machine;
pub(crate) mod ops;
mod program;
mod registers;

pub(crate) use access::splat;
pub use epilogue::TileEpilogue;
pub use fused::Fused;
pub(crate) use interval::Interval;
pub(crate) use program::MAX_RANK;
pub use program::{OpCode, Reg, TileError, TileProgram};

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_join;
