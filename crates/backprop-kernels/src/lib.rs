//! CPU kernels of the backprop training engine, on plain memory: knows no graph.
//!
//! A kernel is *planned* once from shapes, element types and instruction set, and then run every step through the one trait
//! [`Kernel`]: stages separated by barriers, each stage a number of independent tasks. The order of every floating-point operation
//! is a pure function of (shape, dtype) — never of thread count, cache size, timing or vector width — so results are identical
//! bits on any number of threads and on AVX2 and AVX-512. The decomposition into tasks is one of (shape, dtype, instruction set) and, for
//! products, of the processor's maker: whether operands are packed.

mod ahead;
pub mod attention;
pub mod ceilings;
pub mod chain;
pub mod conv;
mod dtype;
pub mod gemm;
mod isa;
mod kernel;
pub mod math;
pub mod movement;
pub mod philox;
pub mod pool;
pub mod reduce;
pub mod sequence;
mod simd;
pub mod tile;
pub mod window;

pub use attention::{Attention, AttentionGradient, AttentionSpec, AttentionStrides};
pub use dtype::DType;
pub use isa::Isa;
pub use kernel::Kernel;
pub use movement::{
    CopyPart, DynamicSlice, DynamicUpdateSlice, FillValue, Gather, GatherSpec, ScatterAdd, ScatterSpec, StridedCopy,
};
pub use reduce::{ArgReduce, ArgReduction, Reduce, Reduction};
pub use tile::{Fused, OpCode, Reg, TileEpilogue, TileError, TileProgram};
pub use window::{ReduceWindow, SelectAndGather, SelectAndScatter, WindowSpec};
