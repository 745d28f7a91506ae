//! Graph, reverse-mode differentiation, passes, planner and executors of the backprop training engine.
//!
//! A [`Builder`] traces a computation into a static [`Graph`] of primitives ([`op`]);
//! [`grad`] transforms it in reverse mode; [`mod@reference`] evaluates it slowly and obviously in f64, the oracle that every
//! backend is compared with.

pub mod attention;
pub mod error;
pub mod exec;
pub mod grad;
pub mod graph;
pub mod host;
pub mod op;
pub mod pass;
pub mod random;
pub mod reference;
pub mod sequence;
pub mod stablehlo;

pub use backprop_kernels::{DType, Isa};
pub use error::Error;
pub use graph::{Builder, Graph, Shape, Tensor, Type};
pub use host::HostTensor;
